"""The work that all runs of one data set, VAE and text encoder share, in FLOPs: of an update, a forward, a clip that is
encoded or decoded. No torch."""

import math
from collections import Counter
from collections.abc import Iterable
from functools import cache, cached_property

from scaling.accounting import flops
from scaling.accounting.geometry import Grid
from scaling.core.specs import DataSpec, DiTSpec, EvalSpec, TextSpec, VAESpec
from scaling.core.stage_fields import TrainingFields
from sweeps.planning.stage_cost import TrainingCost
from sweeps.planning.updates import ClipSize, clip_sizes, grids_of, mean_update


class Workload:
    """What the runs of one data set, VAE and text encoder have in common."""

    def __init__(
        self, data: DataSpec, vae: VAESpec, text: TextSpec, clip: ClipSize | None, clip_count: int | None
    ) -> None:
        self.data, self.vae, self.text = data, vae, text
        self.sizes = [clip] if clip is not None else clip_sizes(data)
        self.clip_count: float | None = clip_count
        if clip_count is None and data.worlds is not None:
            self.clip_count = len(clip_sizes(data)) * data.worlds.count / len(data.worlds.sizes)
        self._forwards: dict[DiTSpec, float] = {}
        self._decodes: dict[int, float] = {}
        self._grids: dict[int, tuple[Grid, ...]] = {}

    @cached_property
    def encode(self) -> float:
        """FLOPs to encode one clip, in the mean of all sizes."""
        return _mean(flops.vae_encode(self.vae, *size) for size in self.sizes)

    @cached_property
    def latent_numbers(self) -> float:
        """Numbers in the latents of one clip, in the mean of all sizes."""
        patch = DiTSpec().patch
        return _mean(map(math.prod, self.grids(patch))) * patch**2 * self.vae.latent_channels

    def encode_at_least(self, frames: int) -> float:
        """FLOPs to encode a clip of at least so many frames."""
        return _mean(flops.vae_encode(self.vae, *size) for size in self._long_enough(frames))

    def decode_at_least(self, frames: int) -> float:
        """FLOPs to decode a clip of at least so many frames."""
        if frames not in self._decodes:
            self._decodes[frames] = _mean(flops.vae_decode(self.vae, *size) for size in self._long_enough(frames))
        return self._decodes[frames]

    def grids(self, patch: int) -> tuple[Grid, ...]:
        """The grid of tokens of each size of clip."""
        if patch not in self._grids:
            self._grids[patch] = grids_of(self.sizes, self.vae, patch)
        return self._grids[patch]

    def training(self, fields: TrainingFields) -> TrainingCost:
        """A run from its first update to its last."""
        grids, batch_tokens = self.grids(fields.dit.patch), fields.optim.batch_tokens
        update = mean_update(fields.dit, self.vae, self.text, grids, batch_tokens, fields.seed)
        steps = max(1, round(fields.flop_budget / update.train_flops))
        n_params = flops.non_embedding(_groups(fields.dit, self.vae.latent_channels, self.text.width))
        total = steps * update.train_flops
        return TrainingCost(n_params, steps * update.num_tokens, total, total, steps)

    def weights(self, dit: DiTSpec) -> int:
        """All parameters of a model."""
        return sum(_groups(dit, self.vae.latent_channels, self.text.width).values())

    def sampling(self, dit: DiTSpec, evaluation: EvalSpec) -> float:
        """FLOPs to draw the latents of one clip, at most."""
        return flops.sampling_forwards(evaluation)[1] * self.forward(dit)

    def forward(self, dit: DiTSpec) -> float:
        """FLOPs of one forward over one clip, in the mean of all sizes."""
        if dit not in self._forwards:
            channels, grids = self.vae.latent_channels, self.grids(dit.patch)
            total = sum(
                count * flops.dit_forward(dit, channels, [grid], self.text.max_tokens, self.text.width)
                for grid, count in Counter(grids).items()
            )
            self._forwards[dit] = total / len(grids)
        return self._forwards[dit]

    def _long_enough(self, frames: int) -> list[ClipSize]:
        return [size for size in self.sizes if size[0] >= frames] or self.sizes


@cache
def _groups(dit: DiTSpec, channels: int, text_dim: int) -> dict[str, int]:
    return flops.dit_params(dit, channels, text_dim)


def _mean(values: Iterable[float]) -> float:
    numbers = list(values)
    return sum(numbers) / len(numbers)
