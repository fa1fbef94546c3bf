"""How clips are cut: windows of the indexed videos, each at its own duration, resolution and aspect ratio.

Not which of them are held out (`scaling.data.holdout`), and not their pixels (`scaling.data.frames`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from scaling.core.errors import UserError
from scaling.core.specs import DataSpec
from scaling.data.clip_shapes import SHORTEST, clip_size, window_lengths
from scaling.data.index import Index
from scaling.data.video_info import Window


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
        width, height = clip_size(path, info, spec)
        first_frame = 0
        for frames in window_lengths(info, fps, spec):
            clips.append(Clip(path, first_frame, frames, fps, height, width, file.caption, len(clips)))
            first_frame += frames
    if not clips:
        raise UserError(
            f"{index.folder}: no video has the {SHORTEST} frames at {spec.fps:g} fps that a clip needs; "
            "raise 'fps' or give longer videos"
        )
    return clips


def evenly_spaced(clips: Sequence[Clip], count: int) -> list[Clip]:
    """`count` of the clips at even distances, in their order, so that they come from as many videos as possible; all
    clips if there are not so many."""
    chosen = np.linspace(0, len(clips) - 1, min(count, len(clips))).round().astype(int)
    return [clips[number] for number in chosen]
