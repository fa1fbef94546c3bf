"""What one update of a training run takes: the clips that fill its batch, and their FLOPs. No torch."""

import math
from collections import Counter
from dataclasses import dataclass
from functools import cache

from scaling.accounting import flops
from scaling.accounting.geometry import Grid, latent_size, token_grid
from scaling.core.errors import UserError
from scaling.core.specs import DataSpec, DiTSpec, TextSpec, VAESpec
from scaling.data.clip_shapes import world_clips
from sweeps.settings import RunSettings

SAMPLED_UPDATES = 64
"""Updates whose mean stands for all of a run, where clips have several sizes."""

ClipSize = tuple[int, int, int]
"""(frames, height, width)."""
ClipCounts = tuple[tuple[Grid, int], ...]
"""Tokens along t, h, w, and how many clips have them."""


@dataclass(frozen=True)
class Update:
    """The mean update of a run."""

    num_tokens: float
    train_flops: float


def clip_sizes(data: DataSpec) -> list[ClipSize]:
    """Sizes of clips that stand for all, each for as many as any other: those of the worlds; of a user's folder, which
    is not opened, the largest square clip that the spec allows. Raises UserError where no world is long enough."""
    if data.worlds is None:
        side = math.isqrt(data.pixels) // data.multiple * data.multiple
        return [(data.frames, side, side)]
    clips = world_clips(data.worlds, data)
    if not clips:
        raise UserError("no world has frames enough for a clip; raise data.worlds.frames or data.fps")
    return clips


def grids_of(sizes: list[ClipSize], vae: VAESpec, patch: int) -> tuple[Grid, ...]:
    """The grid of tokens of each size of clip."""
    return tuple(token_grid(latent_size(*size, vae), patch) for size in sizes)


def update_flops(settings: RunSettings) -> float:
    """Training FLOPs of the mean update of a run with these settings."""
    grids = grids_of(clip_sizes(settings.data), settings.vae, settings.dit.patch)
    return mean_update(
        settings.dit, settings.vae, settings.text, grids, settings.optim.batch_tokens, settings.seed
    ).train_flops


def mean_update(
    dit: DiTSpec, vae: VAESpec, text: TextSpec, grids: tuple[Grid, ...], batch_tokens: int, seed: int
) -> Update:
    """The mean update of a run whose clips have these grids, each as often as any other."""
    counts, updates = _clips_of_updates(grids, batch_tokens, seed)
    train_flops = _flops(dit, vae.latent_channels, counts, updates, text.max_tokens, text.width)
    return Update(sum(math.prod(grid) * count for grid, count in counts) / updates, train_flops)


@cache
def _clips_of_updates(grids: tuple[Grid, ...], batch_tokens: int, seed: int) -> tuple[ClipCounts, int]:
    """How many clips of each size a number of updates take together, and that number. It is the same for all models."""
    from scaling.data.token_batches import TokenBatches  # imports NumPy, which not every command needs

    batches = TokenBatches([math.prod(grid) for grid in grids], batch_tokens, seed)
    updates = SAMPLED_UPDATES if len(set(grids)) > 1 else 1
    counts = Counter(grids[clip] for step in range(updates) for clip in batches(step))
    return tuple(counts.items()), updates


@cache
def _flops(dit: DiTSpec, channels: int, counts: ClipCounts, updates: int, text_tokens: int, text_dim: int) -> float:
    """FLOPs of one update, in the mean. Clips add up, but for their positions, which those of one size share."""
    if len(counts) == 1:
        (grid, count), *_ = counts
        return flops.dit_training(dit, channels, [grid] * count, text_tokens, text_dim) / updates
    grid_flops = (count * flops.dit_training(dit, channels, [grid], text_tokens, text_dim) for grid, count in counts)
    return sum(grid_flops) / updates
