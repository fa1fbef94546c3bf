"""From the number of an update to the crops that a rank trains the VAE on.

Clips keep what they have: one that is shorter or smaller than the crop gives all of it, and crops of one size are a
micro-batch. All of it depends on (seed, step) and on a crop's place in the update alone, not on ranks.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from scaling.accounting.geometry import Grid
from scaling.core.specs import VAETrainSpec
from scaling.core.streams import Stream
from scaling.data.batching import share_out


@dataclass(frozen=True)
class CropBatch:
    """Crops of one size."""

    pixels: Tensor
    """uint8 (b, t, h, w, 3)."""
    places: tuple[int, ...]
    """Of each among the crops of the update: what is random about it follows from that."""
    share: float
    """Of the crops of the whole update."""


@dataclass(frozen=True)
class Crop:
    """Where a crop is cut from."""

    clip: int
    start: tuple[int, int, int]
    """First frame, row and column."""
    frames: int
    side: int


def draw_crops(shapes: Sequence[Grid], train: VAETrainSpec, multiple: int, step: int) -> list[Crop]:
    """The crops of an update, over all ranks, from clips of these (frames, height, width); `multiple` divides sides."""
    rng = np.random.default_rng([train.seed, Stream.CROP, step])
    crops = []
    for clip in rng.integers(len(shapes), size=train.batch_clips).tolist():
        t, h, w = shapes[clip]
        frames, side = min(train.crop_frames, t), min(train.crop, h, w) // multiple * multiple
        first, y, x = (int(rng.integers(size - crop + 1)) for size, crop in ((t, frames), (h, side), (w, side)))
        crops.append(Crop(clip, (first, y, x), frames, side))
    return crops


class Crops:
    """Random crops in space and time of clips of any size: (step) -> the micro-batches of one rank."""

    def __init__(
        self,
        clips: Sequence[np.ndarray],
        train: VAETrainSpec,
        multiple: int,
        *,
        rank: int = 0,
        ranks: int = 1,
        most: int | None = None,
    ) -> None:
        """clips: uint8 (t, h, w, 3), t = 1 + 4k; `multiple` divides the sides of every crop. A micro-batch has `most`
        crops at most."""
        self.most = most or train.batch_clips
        self.clips, self.train, self.multiple, self.rank, self.ranks = clips, train, multiple, rank, ranks
        self.shapes = [clip.shape[:3] for clip in clips]

    def __call__(self, step: int) -> list[CropBatch]:
        """Raises UserError where there are fewer crops than ranks."""
        crops = draw_crops(self.shapes, self.train, self.multiple, step)
        mine = share_out([crop.frames * crop.side**2 for crop in crops], self.ranks)[self.rank]
        by_size: dict[tuple[int, int], list[int]] = {}
        for place in mine:
            by_size.setdefault((crops[place].frames, crops[place].side), []).append(place)
        return [
            CropBatch(
                torch.from_numpy(np.stack([self._cut(crops[place]) for place in places])),
                tuple(places),
                len(places) / len(crops),
            )
            for same in by_size.values()
            for places in (same[first : first + self.most] for first in range(0, len(same), self.most))
        ]

    def _cut(self, crop: Crop) -> np.ndarray:
        t, y, x = crop.start
        return self.clips[crop.clip][t : t + crop.frames, y : y + crop.side, x : x + crop.side]
