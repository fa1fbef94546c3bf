"""Procedural worlds as a folder of ordinary video files, with their captions and true states.

    videos/000000.mp4 ...   H.264
    captions.jsonl          {file, caption}
    states.jsonl            {file, gravity, objects: [{shape, color, half, layer}], states: (t, objects, 4)}
    worlds.json             the spec

A file that exists is complete, so a run that was killed continues where it stopped.
"""

import json
import multiprocessing
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

from scaling.core.errors import UserError
from scaling.core.machine import usable_cores
from scaling.core.specs import WorldSpec, parse_spec
from scaling.core.store import read_document, replacing, write_document
from scaling.data.video import write_video
from scaling.data.worlds import render, simulate


def make_worlds(
    folder: Path,
    spec: WorldSpec,
    progress: Callable[[int, int], None] | None = None,
    processes: int | None = None,
) -> None:
    """Writes the worlds of a spec. The bytes do not depend on the number of processes (default: one for each core).

    `progress` is called with the number of finished worlds and the number of all worlds. Raises UserError where the
    folder holds anything else, or where the disk is full.
    """
    if processes is not None and processes < 1:
        raise UserError(f"processes is {processes}, but must be at least 1")
    _claim(folder, spec)
    with (
        replacing(folder / "captions.jsonl") as captions,
        replacing(folder / "states.jsonl") as states,
        open(captions, "w", encoding="utf-8") as caption_file,
        open(states, "w", encoding="utf-8") as state_file,
    ):
        for done, (caption, truth) in enumerate(_write_videos(folder, spec, processes), start=1):
            caption_file.write(json.dumps(caption) + "\n")
            state_file.write(json.dumps(truth) + "\n")
            if progress is not None:
                progress(done, spec.count)


def _claim(folder: Path, spec: WorldSpec) -> None:
    """Reserves the folder for one spec, so that the worlds of two specs are never mixed. Only the count may grow.

    Hidden files are ignored: a run that was killed early may have left nothing but a temporary file.
    """
    spec_path = folder / "worlds.json"
    if folder.exists() and not folder.is_dir():
        raise UserError(f"{folder}: is a file; give a folder")
    if spec_path.exists():
        earlier = parse_spec(WorldSpec, read_document(spec_path), str(spec_path))
        for field, value in spec:
            earlier_value = getattr(earlier, field)
            if earlier_value != value and not (field == "count" and value > earlier_value):
                raise UserError(
                    f"{folder}: holds worlds with {field} {earlier_value}, not {value}; give another folder"
                )
    elif folder.exists() and any(not path.name.startswith(".") for path in folder.iterdir()):
        raise UserError(f"{folder}: holds other files; give a new or empty folder")
    write_document(spec_path, spec.model_dump(mode="json"))


def _write_videos(
    folder: Path, spec: WorldSpec, processes: int | None
) -> Iterator[tuple[dict[str, Any], dict[str, Any]]]:
    """Writes the videos in order; yields the rows of captions.jsonl and states.jsonl of each."""
    write = partial(_write_world, folder, spec)
    workers = min(processes or usable_cores(), spec.count)
    if workers == 1:
        yield from map(write, range(spec.count))
        return
    # spawn, because forking a process that has threads can deadlock
    with ProcessPoolExecutor(workers, multiprocessing.get_context("spawn")) as pool:
        yield from pool.map(write, range(spec.count), chunksize=8)


def _write_world(folder: Path, spec: WorldSpec, index: int) -> tuple[dict[str, Any], dict[str, Any]]:
    """Writes the video of one world unless it exists. Returns its rows of captions.jsonl and states.jsonl."""
    world = simulate(spec, index)
    file = f"videos/{index:06d}.mp4"
    if not (folder / file).exists():
        write_video(folder / file, render(world), world.fps)
    truth = {
        "file": file,
        "gravity": world.gravity,
        "objects": [asdict(body) for body in world.bodies],
        "states": world.states.round(6).tolist(),
    }
    return {"file": file, "caption": world.caption}, truth
