"""The batches of the VAE's updates: from the number of an update to the crops that a rank trains on.

Nothing is padded: a clip that is shorter or smaller than the crop is used whole, and crops of one size form a
micro-batch. All of it depends only on (seed, step) and on a crop's place in the update, not on the number of ranks.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from scaling.accounting.geometry import Grid
from scaling.core.specs import VAETrainSpec
from scaling.core.streams import Stream
from scaling.data.token_batches import share_out


@dataclass(frozen=True)
class CropBatch:
    """Crops of one size: a micro-batch."""

    pixels: Tensor
    """The crops, uint8 (b, t, h, w, 3)."""
    places: tuple[int, ...]
    """The place of each crop among the crops of the update. Everything random about the crop follows from it."""
    share: float
    """The number of these crops divided by that of the whole update."""


@dataclass(frozen=True)
class Crop:
    """The place where a crop is cut from, and its size."""

    clip: int
    """The number of the clip."""
    start: tuple[int, int, int]
    """The first frame, row and column in the clip."""
    frames: int
    """The number of frames."""
    side: int
    """The height and width in pixels."""


def draw_crops(shapes: Sequence[Grid], train: VAETrainSpec, multiple: int, step: int) -> list[Crop]:
    """Draws the crops of an update, over all ranks, from clips of these (frames, height, width). Their sides are
    multiples of `multiple`."""
    rng = np.random.default_rng([train.seed, Stream.CROP, step])
    crops = []
    for clip in rng.integers(len(shapes), size=train.batch_clips).tolist():
        t, h, w = shapes[clip]
        frames, side = min(train.crop_frames, t), min(train.crop, h, w) // multiple * multiple
        first, y, x = (int(rng.integers(size - crop + 1)) for size, crop in ((t, frames), (h, side), (w, side)))
        crops.append(Crop(clip, (first, y, x), frames, side))
    return crops


class Crops:
    """The micro-batches of every update for one rank: random crops, in space and time, of clips of any size."""

    def __init__(
        self,
        clips: Sequence[np.ndarray],
        train: VAETrainSpec,
        multiple: int,
        *,
        rank: int = 0,
        world_size: int = 1,
        micro_crops: int | None = None,
    ) -> None:
        """The clips are uint8 (t, h, w, 3) with t = 1 + 4k. The sides of a crop are multiples of `multiple`. A
        micro-batch has at most `micro_crops` crops, if given."""
        self.micro_crops = micro_crops or train.batch_clips
        self.clips, self.train, self.multiple, self.rank, self.world_size = clips, train, multiple, rank, world_size
        self.shapes = [clip.shape[:3] for clip in clips]

    def __call__(self, step: int) -> list[CropBatch]:
        """The micro-batches of update `step`, counted from 0. Raises UserError if there are fewer crops than ranks."""
        crops = draw_crops(self.shapes, self.train, self.multiple, step)
        rank_places = share_out([crop.frames * crop.side**2 for crop in crops], self.world_size)[self.rank]
        by_size: dict[tuple[int, int], list[int]] = {}
        for place in rank_places:
            by_size.setdefault((crops[place].frames, crops[place].side), []).append(place)
        return [
            CropBatch(
                torch.from_numpy(np.stack([self._cut(crops[place]) for place in places])),
                tuple(places),
                len(places) / len(crops),
            )
            for places_of_size in by_size.values()
            for places in (
                places_of_size[first : first + self.micro_crops]
                for first in range(0, len(places_of_size), self.micro_crops)
            )
        ]

    def _cut(self, crop: Crop) -> np.ndarray:
        t, y, x = crop.start
        return self.clips[crop.clip][t : t + crop.frames, y : y + crop.side, x : x + crop.side]
