"""Clips: windows of the indexed videos, each at its own duration, resolution and aspect ratio."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

import numpy as np

from scaling.core.errors import UserError
from scaling.core.specs import DataSpec, WorldSpec
from scaling.data.index import Index
from scaling.data.video import Frames, UnreadableVideo, VideoInfo, Window, inspect, read_clips

SHORTEST = 5
"""Frames of the shortest window that moves: 1 + 4, two latent frames."""

FEWEST_VIDEOS = 8
"""Held-out videos that make a sample of the data."""


@dataclass(frozen=True)
class Clip:
    """Frames of one video that are trained on together. Nothing is decoded yet."""

    path: Path
    start_seconds: float
    frames: int
    """1 + 4k."""
    fps: float
    height: int
    width: int
    caption: str
    ordinal: int
    """Place in the list of all clips."""

    @property
    def window(self) -> Window:
        return Window(self.start_seconds, self.frames, self.fps)


def list_clips(index: Index, spec: DataSpec) -> list[Clip]:
    """Cuts every readable video into windows of `spec.frames` that follow each other, in the order of the index.

    A shorter rest is kept if it has at least five frames, cut to 1 + 4k. Videos of one frame give one-frame clips if
    `spec.images`. Raises UserError naming a file whose sides are too short, or if no video is long enough.
    """
    clips: list[Clip] = []
    for entry in index.entries:
        assert entry.info is not None
        path = Path(index.folder) / entry.file
        fps = min(spec.fps, entry.info.fps)
        width, height = _target_size(path, entry.info, spec)
        first = 0
        for frames in _windows(entry.info, fps, spec):
            clips.append(Clip(path, first / fps, frames, fps, height, width, entry.caption, len(clips)))
            first += frames
    if not clips:
        raise UserError(
            f"{index.folder}: no video has the {SHORTEST} frames at {spec.fps:g} fps that a clip needs; "
            "raise 'fps' or give longer videos"
        )
    return clips


def split(clips: Sequence[Clip], holdout_every: int) -> tuple[list[Clip], list[Clip]]:
    """Training and held-out clips. Every k-th video is held out with all its clips: no scene is on both sides.

    Where that gives fewer than eight videos, they would be a few scenes and not a sample of the data: then the last
    k-th of the clips of every video that has two is held out instead, rounded up. Losses then say how well the model
    knows these scenes, not how well it would know others.
    Raises UserError if there are fewer than two clips.
    """
    if len(clips) < 2:
        raise UserError(f"only {len(clips)} clip, but one to train on and one to hold out are needed; give more videos")
    videos = [list(group) for _, group in groupby(clips, key=lambda clip: clip.path)]
    long = [video for video in videos if len(video) > 1]
    whole = videos[holdout_every - 1 :: holdout_every]
    if long and len(whole) < FEWEST_VIDEOS:
        held_out = [clip for video in long for clip in video[-math.ceil(len(video) / holdout_every) :]]
    else:
        held_out = [clip for video in whole or videos[-1:] for clip in video]
    ordinals = {clip.ordinal for clip in held_out}
    return [clip for clip in clips if clip.ordinal not in ordinals], held_out


def spread(clips: Sequence[Clip], count: int) -> list[Clip]:
    """`count` of the clips at even distances, so that they come from as many videos as can be; all if there are not so
    many. In their order."""
    chosen = np.linspace(0, len(clips) - 1, min(count, len(clips))).round().astype(int)
    return [clips[number] for number in chosen]


def world_clips(worlds: WorldSpec, spec: DataSpec) -> list[tuple[int, int, int]]:
    """(frames, height, width) of the clips that `list_clips` will cut out of one world of each size."""
    fps, shapes = min(spec.fps, worlds.fps), []
    for size in worlds.sizes:
        seconds = size.frames / worlds.fps
        info = VideoInfo(
            codec="h264", width=size.width, height=size.height, fps=worlds.fps, frames=size.frames, duration=seconds
        )
        width, height = _target_size(Path("worlds"), info, spec)
        shapes += [(frames, height, width) for frames in _windows(info, fps, spec)]
    return shapes


def read(clips: Sequence[Clip]) -> Iterator[tuple[Clip, Frames]]:
    """Each clip with its pictures, (t, h, w, 3); a file is decoded once, so clips of one file must follow each other.

    Raises UserError if a file has changed since it was indexed and no longer decodes.
    """
    for path, group in groupby(clips, key=lambda clip: clip.path):
        of_file = list(group)
        size = of_file[0].width, of_file[0].height
        try:
            yield from zip(of_file, read_clips(path, [clip.window for clip in of_file], size), strict=True)
        except UnreadableVideo as problem:
            raise UserError(f"{path}: {problem}; it was readable when indexed: index the folder again") from None


def read_whole(path: Path, size: tuple[int, int], fps: float) -> Frames:
    """A file from its first frame to its last, (t, h, w, 3), scaled and cut to `size` (width, height) as clips are, at
    this rate, which may be above its own; a still is one frame. All of it is in memory.

    Raises UserError where the file is missing or cannot be read.
    """
    try:
        info = inspect(path, images=True)
        frames = 1 if info.frames == 1 else max(1, _frames_at(info, fps))
        return next(read_clips(path, [Window(0.0, frames, fps)], size))
    except UnreadableVideo as problem:
        raise UserError(f"{path}: {problem}") from None


def _windows(info: VideoInfo, fps: float, spec: DataSpec) -> list[int]:
    """Frames of each window of a video."""
    if info.frames == 1:
        return [1] if spec.images else []
    whole, rest = divmod(_frames_at(info, fps), spec.frames)
    return [spec.frames] * whole + ([(rest - 1) // 4 * 4 + 1] if rest >= SHORTEST else [])


def _frames_at(info: VideoInfo, fps: float) -> int:
    """How many frames of a moving video there are at a rate."""
    # At its own rate every frame is used; a hundredth of a frame forgives rounded time stamps.
    return info.frames if fps == info.fps else math.floor(info.duration * fps + 0.01)


def _target_size(path: Path, info: VideoInfo, spec: DataSpec) -> tuple[int, int]:
    """Width and height: shrunk to the area budget at the same aspect ratio, then rounded down to the multiple."""
    scale = min(1.0, math.sqrt(spec.pixels / (info.width * info.height)))
    sides = info.width * scale + 1e-6, info.height * scale + 1e-6  # 1e-6 pixels forgive the rounding of the root
    width, height = (math.floor(side) // spec.multiple * spec.multiple for side in sides)
    if not (width and height):
        raise UserError(
            f"{path}: {info.width}x{info.height} shrinks to {sides[0]:.0f}x{sides[1]:.0f} within "
            f"{spec.pixels} pixels, but each side needs {spec.multiple}; raise 'pixels' or leave the file out"
        )
    return width, height
