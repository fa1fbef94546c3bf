"""Clips of a fixed number of frames from a folder of videos, and their features. Not the clips that models train on.

Those (`scaling.data.clips`) are 1 + 4k frames long and scaled down; a metric takes exactly the frames that it names, at
the videos' own size.
"""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from scaling.core.errors import UserError
from scaling.data.clips import Clip, read
from scaling.data.index import Index, Progress

if TYPE_CHECKING:
    from scaling.metrics.i3d import I3D

BATCH_CLIPS = 4


def metric_clips(index: Index, frames: int, fps: float | None) -> list[Clip]:
    """Windows of `frames` frames that follow each other in each readable video; a shorter rest is left out.

    Videos are resampled to `fps` by nearest frame; None, or a video that is slower, keeps the video's own rate. Windows
    of one video are not independent: with few, long videos an interval over clips is too narrow.

    Raises UserError if no video is long enough.
    """
    clips: list[Clip] = []
    for entry in index.entries:
        info = entry.info
        assert info is not None
        rate = min(fps or info.fps, info.fps)
        total = info.frames if rate == info.fps else int(info.duration * rate + 0.01)
        path = Path(index.folder) / entry.file
        for first in range(0, total - frames + 1, frames):
            clips.append(Clip(path, first / rate, frames, rate, info.height, info.width, entry.caption, len(clips)))
    if not clips:
        longest = max(entry.info.frames for entry in index.entries if entry.info is not None)
        raise UserError(
            f"{index.folder}: no video has the {frames} frames of a clip, the longest has {longest}; "
            "lower --frames or give longer videos"
        )
    return clips


def choose(clips: Sequence[Clip], count: int, seed: int) -> list[Clip]:
    """`count` of the clips at random, in their old order, so that each file is still read once."""
    chosen = np.random.default_rng(seed).permutation(len(clips))[:count]
    return [clips[i] for i in sorted(chosen)]


def sizes(clips: Sequence[Clip]) -> str:
    """The clips' sizes in words, the most frequent first: `64x64` or `64x64 and 2 others`."""
    (most, _), *others = Counter(f"{clip.width}x{clip.height}" for clip in clips).most_common()
    return f"{most} and {len(others)} other{'s' if len(others) > 1 else ''}" if others else most


def clip_features(clips: Sequence[Clip], network: "I3D", progress: Progress) -> np.ndarray:
    """Features (n, 400) in the order of the clips; `progress` is told how many are done, of how many.

    Raises UserError if a file no longer decodes.
    """
    rows: list[np.ndarray] = []
    batch: list[np.ndarray] = []

    def flush() -> None:
        if batch:
            rows.append(network.features(np.stack(batch)))
            progress(sum(map(len, rows)), len(clips))
            batch.clear()

    for _, pictures in read(clips):
        if batch and batch[0].shape != pictures.shape:
            flush()
        batch.append(pictures)
        if len(batch) == BATCH_CLIPS:
            flush()
    flush()
    return np.concatenate(rows)
