"""How clips are cut: windows of the indexed videos, each at its own duration, resolution and aspect ratio.

Not which of them are held out (`scaling.data.holdout`), and not their pixels (`scaling.data.frames`).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from scaling.accounting.geometry import Grid
from scaling.core.errors import UserError
from scaling.core.specs import DataSpec, WorldSpec
from scaling.data.index import Index
from scaling.data.video import VideoInfo, Window

SHORTEST = 5
"""Frames of the shortest clip of a moving video: 1 + 4, which is two latent frames."""


@dataclass(frozen=True, slots=True)
class Clip:
    """Consecutive frames of one video that are used together. Nothing is decoded yet."""

    path: Path
    """The video file."""
    first_frame: int
    """Number of the first frame, counted at the rate of the clip."""
    frames: int
    """Number of frames; 1 + 4k in a clip that models are trained on."""
    fps: float
    """Frames per second at which the video is read."""
    height: int
    """Pixels to which the frames are scaled and cut."""
    width: int
    """Pixels to which the frames are scaled and cut."""
    caption: str
    """The caption of the whole video."""
    ordinal: int
    """Place in the list of all clips."""

    @property
    def window(self) -> Window:
        """Which frames of the file to read."""
        return Window(self.first_frame / self.fps, self.frames, self.fps)


def cut_clips(index: Index, spec: DataSpec) -> list[Clip]:
    """Cuts every readable video into windows of `spec.frames` that follow each other, in the order of the index.

    What remains at the end of a video is kept if it has at least SHORTEST frames, and is cut to 1 + 4k. Videos of one
    frame give clips of one frame if `spec.images` is set. Raises UserError naming a file whose sides are too short, or
    if no video is long enough.
    """
    clips: list[Clip] = []
    for file, info in index.readable:
        path = Path(index.folder) / file.file
        fps = min(spec.fps, info.fps)
        width, height = _clip_size(path, info, spec)
        first_frame = 0
        for frames in _window_lengths(info, fps, spec):
            clips.append(Clip(path, first_frame, frames, fps, height, width, file.caption, len(clips)))
            first_frame += frames
    if not clips:
        raise UserError(
            f"{index.folder}: no video has the {SHORTEST} frames at {spec.fps:g} fps that a clip needs; "
            "raise 'fps' or give longer videos"
        )
    return clips


def world_clips(worlds: WorldSpec, spec: DataSpec) -> list[Grid]:
    """(frames, height, width) of the clips that `cut_clips` cuts out of one world of each size, without any video."""
    fps, sizes = min(spec.fps, worlds.fps), []
    for world in worlds.sizes:
        seconds = world.frames / worlds.fps
        info = VideoInfo(
            codec="h264", width=world.width, height=world.height, fps=worlds.fps, frames=world.frames, duration=seconds
        )
        width, height = _clip_size(Path("worlds"), info, spec)
        sizes += [(frames, height, width) for frames in _window_lengths(info, fps, spec)]
    return sizes


def evenly_spaced(clips: Sequence[Clip], count: int) -> list[Clip]:
    """`count` of the clips at even distances, in their order, so that they come from as many videos as possible; all
    clips if there are not so many."""
    chosen = np.linspace(0, len(clips) - 1, min(count, len(clips))).round().astype(int)
    return [clips[number] for number in chosen]


def frames_at_rate(info: VideoInfo, fps: float) -> int:
    """How many frames a video has when it is read at this rate."""
    # At its own rate every frame is used. A hundredth of a frame allows for rounded time stamps.
    return info.frames if fps == info.fps else math.floor(info.duration * fps + 0.01)


def _window_lengths(info: VideoInfo, fps: float, spec: DataSpec) -> list[int]:
    """The number of frames of each clip of a video."""
    if info.frames == 1:
        return [1] if spec.images else []
    full_clips, remainder = divmod(frames_at_rate(info, fps), spec.frames)
    return [spec.frames] * full_clips + ([(remainder - 1) // 4 * 4 + 1] if remainder >= SHORTEST else [])


def _clip_size(path: Path, info: VideoInfo, spec: DataSpec) -> tuple[int, int]:
    """Width and height: scaled down to the area budget at the same aspect ratio, then rounded down to the multiple."""
    scale = min(1.0, math.sqrt(spec.pixels / (info.width * info.height)))
    sides = info.width * scale + 1e-6, info.height * scale + 1e-6  # 1e-6 pixels allow for the rounding of the root
    width, height = (math.floor(side) // spec.multiple * spec.multiple for side in sides)
    if not (width and height):
        raise UserError(
            f"{path}: {info.width}x{info.height} shrinks to {sides[0]:.0f}x{sides[1]:.0f} within "
            f"{spec.pixels} pixels, but each side needs {spec.multiple}; raise 'pixels' or leave the file out"
        )
    return width, height
