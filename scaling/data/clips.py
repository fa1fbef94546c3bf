"""How clips are cut: windows of the indexed videos, each at its own duration, resolution and aspect ratio.

Not which of them are held out (`scaling.data.holdout`), and not their pixels (`scaling.data.frames`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from scaling.core.errors import UserError
from scaling.core.specs import DataSpec
from scaling.data.clip_shapes import SHORTEST, clip_size, why_too_thin, why_unusable, window_lengths
from scaling.data.file_versions import FileVersion
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
    version: FileVersion | None = field(default=None, compare=False)
    """What the file was when it was indexed, if that is to be checked when it is read."""

    @property
    def window(self) -> Window:
        """Which frames of the file to read."""
        return Window(self.first_frame / self.fps, self.frames, self.fps)


def leave_out_unusable(index: Index, spec: DataSpec) -> Index:
    """The index, in which the readable videos that no clip can be cut from are skipped too, with the reasons."""
    return index.replace(
        files=[
            file if file.info is None or file.problem else file.replace(problem=why_unusable(file.info, spec))
            for file in index.files
        ]
    )


def cut_clips(index: Index, spec: DataSpec) -> list[Clip]:
    """Cuts every readable video into windows of `spec.frames` that follow each other, in the order of the index.

    What remains at the end of a video is kept if it has at least SHORTEST frames, and is cut to 1 + 4k. Videos of one
    frame give clips of one frame if `spec.images` is set. Videos that are too thin or too short give none. Raises
    UserError if no video gives a clip.
    """
    clips: list[Clip] = []
    for file, info in index.readable:
        if why_too_thin(info.size, spec) is not None:
            continue
        path = Path(index.folder) / file.file
        fps = min(spec.fps, info.fps)
        width, height = clip_size(info.size, spec)
        first_frame = 0
        for frames in window_lengths(info, fps, spec):
            clips.append(Clip(path, first_frame, frames, fps, height, width, file.caption, len(clips)))
            first_frame += frames
    if not clips:
        raise _no_clips(index, spec)
    return clips


def _no_clips(index: Index, spec: DataSpec) -> UserError:
    """The error for an index of unusable videos. It names the first that is too thin, if one is."""
    for file in index.files:
        if file.info is not None and (reason := why_too_thin(file.info.size, spec)) is not None:
            return UserError(f"{Path(index.folder) / file.file}: {reason}; no other file gives a clip either")
    return UserError(
        f"{index.folder}: no video has the {SHORTEST} frames at {spec.fps:g} fps that a clip needs; "
        "raise 'fps' or give longer videos"
    )


def evenly_spaced(clips: Sequence[Clip], count: int) -> list[Clip]:
    """`count` of the clips at even distances, in their order, so that they come from as many videos as possible; all
    clips if there are not so many."""
    chosen = np.linspace(0, len(clips) - 1, min(count, len(clips))).round().astype(int)
    return [clips[number] for number in chosen]
