"""Clips of a fixed number of frames from a folder of videos, for `scaling fvd`, and their features.

Not the clips that models are trained on: those (`scaling.data.clips`) have 1 + 4k frames and are scaled down. A metric
takes exactly the number of frames that it names, at the size of the videos.
"""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from scaling.core.errors import UserError
from scaling.data.clip_shapes import frames_at_rate
from scaling.data.clips import Clip
from scaling.data.frames import read_frames
from scaling.data.index import Index, Progress

if TYPE_CHECKING:
    from scaling.metrics.i3d import I3D

BATCH_CLIPS = 4


def metric_clips(index: Index, frames: int, fps: float | None) -> list[Clip]:
    """Windows of `frames` frames that follow each other in each readable video; a shorter rest is dropped.

    Videos are resampled to `fps` by nearest frame. With None, and where a video is slower, it keeps its own rate.
    Windows of one video are not independent: with few, long videos an interval over clips is too narrow.

    Raises UserError if no video is long enough.
    """
    clips: list[Clip] = []
    for file, info in index.readable:
        rate = min(fps or info.fps, info.fps)
        path = Path(index.folder) / file.file
        for first_frame in range(0, frames_at_rate(info, rate) - frames + 1, frames):
            clips.append(Clip(path, first_frame, frames, rate, info.height, info.width, file.caption, len(clips)))
    if not clips:
        longest = max(info.frames for _, info in index.readable)
        raise UserError(
            f"{index.folder}: no video has the {frames} frames of a clip, the longest has {longest}; "
            "lower --frames or give longer videos"
        )
    return clips


def choose(clips: Sequence[Clip], count: int, seed: int) -> list[Clip]:
    """`count` of the clips at random. They stay in their order, so that each file is read once."""
    chosen = np.random.default_rng(seed).permutation(len(clips))[:count]
    return [clips[number] for number in sorted(chosen)]


def sizes(clips: Sequence[Clip]) -> str:
    """The sizes of the clips in words, such as `64x64` or, where they differ, `64x64 and 2 others`."""
    (most_frequent, _), *others = Counter(f"{clip.width}x{clip.height}" for clip in clips).most_common()
    plural = "s" if len(others) > 1 else ""
    return f"{most_frequent} and {len(others)} other{plural}" if others else most_frequent


def clip_features(clips: Sequence[Clip], network: "I3D", progress: Progress) -> np.ndarray:
    """Features (n, 400) in the order of the clips. `progress` gets the number of finished clips and of all clips.

    Raises UserError if a file no longer decodes.
    """
    rows: list[np.ndarray] = []
    batch: list[np.ndarray] = []

    def flush() -> None:
        if batch:
            rows.append(network.features(np.stack(batch)))
            progress(sum(map(len, rows)), len(clips))
            batch.clear()

    for _, frames in read_frames(clips):
        if batch and batch[0].shape != frames.shape:
            flush()
        batch.append(frames)
        if len(batch) == BATCH_CLIPS:
            flush()
    flush()
    return np.concatenate(rows)
