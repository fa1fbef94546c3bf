"""Worlds as video files: the same bytes however they are made, and the same pictures when they are read as clips."""

import hashlib
import json
from pathlib import Path

import numpy as np
import pytest

from scaling.core.errors import UserError
from scaling.core.specs import DataSpec, WorldSpec
from scaling.data.clip_shapes import world_clips
from scaling.data.clips import cut_clips
from scaling.data.frames import read_frames
from scaling.data.holdout import held_out_ordinals
from scaling.data.index import index_folder
from scaling.data.world_files import make_worlds
from scaling.data.worlds import render, simulate
from tests.test_worlds import MIXED, worlds


def hash_of(folder: Path) -> dict[str, str]:
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def test_files_are_the_same_whatever_the_number_of_processes(tmp_path: Path) -> None:
    spec = WorldSpec(count=12, frames=12)
    make_worlds(tmp_path / "one", spec, processes=1)
    make_worlds(tmp_path / "two", spec, processes=2)
    assert hash_of(tmp_path / "one") == hash_of(tmp_path / "two")
    rows = [json.loads(line) for line in (tmp_path / "one" / "captions.jsonl").read_text().splitlines()]
    assert [row["caption"] for row in rows] == [world.caption for world in worlds(spec, 12)]
    truth = json.loads((tmp_path / "one" / "states.jsonl").read_text().splitlines()[7])
    np.testing.assert_allclose(truth["states"], simulate(spec, 7).states, atol=1e-6)


def test_a_killed_run_continues_and_keeps_complete_files(tmp_path: Path) -> None:
    spec = WorldSpec(count=6, frames=9)

    def die(done: int, total: int) -> None:
        if done == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        make_worlds(tmp_path / "killed", spec, die, processes=1)
    kept = sorted((tmp_path / "killed" / "videos").glob("*.mp4"))
    assert len(kept) == 3
    times = [path.stat().st_mtime_ns for path in kept]
    (tmp_path / "killed" / "videos" / ".000003.mp4.1.0badf00d.tmp.mp4").write_bytes(b"half a file")
    make_worlds(tmp_path / "killed", spec, processes=1)
    make_worlds(tmp_path / "whole", spec, processes=1)
    assert [path.stat().st_mtime_ns for path in kept] == times
    (tmp_path / "killed" / "videos" / ".000003.mp4.1.0badf00d.tmp.mp4").unlink()
    assert hash_of(tmp_path / "killed") == hash_of(tmp_path / "whole")


def test_a_run_killed_before_its_first_file_can_be_run_again(tmp_path: Path) -> None:
    (tmp_path / ".worlds.json.12.0badf00d.tmp.json").write_bytes(b'{"cou')
    make_worlds(tmp_path, WorldSpec(count=1, frames=5), processes=1)
    assert (tmp_path / "videos" / "000000.mp4").exists()


def test_worlds_of_two_specs_do_not_mix_but_a_folder_may_grow(tmp_path: Path) -> None:
    make_worlds(tmp_path / "worlds", WorldSpec(count=2, frames=5), processes=1)
    with pytest.raises(UserError, match="holds worlds with seed 0, not 1"):
        make_worlds(tmp_path / "worlds", WorldSpec(count=2, frames=5, seed=1))
    with pytest.raises(UserError, match="count 2, not 1"):
        make_worlds(tmp_path / "worlds", WorldSpec(count=1, frames=5))
    make_worlds(tmp_path / "worlds", WorldSpec(count=3, frames=5), processes=1)
    make_worlds(tmp_path / "fresh", WorldSpec(count=3, frames=5), processes=1)
    assert hash_of(tmp_path / "worlds") == hash_of(tmp_path / "fresh")
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "holiday.mp4").write_bytes(b"x")
    with pytest.raises(UserError, match="holds other files"):
        make_worlds(tmp_path / "photos", WorldSpec(count=1, frames=5))


def test_worlds_are_read_like_any_folder_of_videos(tmp_path: Path) -> None:
    spec = WorldSpec(count=3, frames=34, width=96, height=64)
    make_worlds(tmp_path, spec, processes=1)
    index = index_folder(tmp_path)
    clips = cut_clips(index, DataSpec(folder=str(tmp_path), pixels=96 * 64))
    assert [(clip.ordinal, clip.first_frame, clip.frames) for clip in clips[:3]] == [
        (0, 0, 17),
        (1, 17, 17),
        (2, 0, 17),
    ]
    for clip, frames in read_frames(clips):
        world = simulate(spec, int(clip.path.stem))
        drawn = render(world)[clip.first_frame : clip.first_frame + 17]
        assert clip.caption == world.caption
        error = ((frames.astype(float) - drawn) ** 2).mean()
        assert 10 * np.log10(255**2 / error) > 30


def test_worlds_of_every_size_are_clips_of_their_own_size(tmp_path: Path) -> None:
    make_worlds(tmp_path, MIXED, processes=1)
    spec = DataSpec(worlds=MIXED, frames=33, pixels=4608, images=True, holdout_every=3)
    clips = cut_clips(index_folder(tmp_path, images=True), spec)
    assert [(clip.frames, clip.height, clip.width) for clip in clips[:4]] == world_clips(MIXED, spec)
    assert len(clips) == 12
    held_out = held_out_ordinals(clips, 3)
    assert {(clip.frames, clip.height, clip.width) for clip in clips if clip.ordinal in held_out} == set(
        world_clips(MIXED, spec)
    )
    for (clip, frames), world in zip(read_frames(clips), worlds(MIXED, 12), strict=True):
        drawn = render(world)
        assert clip.caption == world.caption
        assert frames.shape == drawn.shape
        assert 10 * np.log10(255**2 / ((frames.astype(float) - drawn) ** 2).mean()) > 28


def test_the_sizes_of_clips_are_known_without_making_a_world(tmp_path: Path) -> None:
    """Also where they are cut, resampled and shrunk."""
    worlds_spec = WorldSpec(count=2, frames=50, fps=16, width=96, height=64)
    make_worlds(tmp_path, worlds_spec, processes=1)
    for spec in (
        DataSpec(worlds=worlds_spec, frames=17, fps=16, pixels=96 * 64),
        DataSpec(worlds=worlds_spec, frames=9, fps=8, pixels=3000),
    ):
        clips = cut_clips(index_folder(tmp_path), spec)
        assert [(clip.frames, clip.height, clip.width) for clip in clips] == 2 * world_clips(worlds_spec, spec)
