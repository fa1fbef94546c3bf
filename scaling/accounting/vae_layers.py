"""The layers of the VAE, with what each costs, so that parameters and FLOPs are sums. Imports no torch.

The walks follow `scaling.models.vae_factorised` and `scaling.models.vae_full` layer by layer (tests/test_flops.py holds
them against the modules).
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass

from scaling.accounting.geometry import PIXEL_CHANNELS, Grid
from scaling.core.specs import VAESpec, VAEStage


@dataclass(frozen=True)
class Layer:
    """A product with a matrix of `weights` entries at each of `positions` places."""

    weights: int
    positions: int
    vectors: int
    """Parameters that are added or multiplied in elementwise: biases and gains."""
    attention: int = 0
    """Multiply-adds between positions."""

    @property
    def params(self) -> int:
        return self.weights + self.vectors

    @property
    def multiply_adds(self) -> int:
        return self.weights * self.positions + self.attention


def encoder_layers(vae: VAESpec, grid: Grid) -> Iterator[Layer]:
    """Layers of the encoder on a clip of `grid` patches along t, h, w; the one that reads the pixels comes first."""
    full = vae.convolution == "full"
    width = vae.stages[0].width
    yield _layer(27 if full else 1, PIXEL_CHANNELS * vae.patch**2, width, grid)
    for stage, after in zip(vae.stages, vae.widths_after, strict=True):
        yield from _blocks(vae, width, stage.width, grid, vae.blocks)
        width = stage.width
        if stage.down != "none":
            small = _halved(grid, stage)
            yield from _down(stage, grid, small) if full else _fold(stage, after, grid, small)
            grid = small
        width = width if full else after
    if full:
        yield from _middle(vae, width, grid)
    yield _norm(width)
    yield _layer(27 if full else 1, width, 2 * vae.latent_channels, grid)


def decoder_layers(vae: VAESpec, grid: Grid) -> Iterator[Layer]:
    """Layers of the decoder on latents of `grid` along t, h, w."""
    full = vae.convolution == "full"
    width = vae.stages[-1].width
    yield _layer(27 if full else 1, vae.latent_channels, width, grid)
    if full:
        yield from _middle(vae, width, grid)
    for stage in reversed(vae.stages):
        if stage.down != "none":
            large = _doubled(grid, stage)
            yield from _up(stage, width, grid, large) if full else _unfold(stage, width, grid, large)
            grid = large
            width = (width // 2 if stage.halves_space else width) if full else stage.width
        yield from _blocks(vae, width, stage.width, grid, vae.blocks + full)
        width = stage.width
    yield _norm(width)
    yield _layer(27 if full else 1, width, PIXEL_CHANNELS * vae.patch**2, grid)


def _blocks(vae: VAESpec, width: int, width_out: int, grid: Grid, count: int) -> Iterator[Layer]:
    for _ in range(count):
        yield _norm(width)
        yield _norm(width_out)
        if vae.convolution == "factorised":
            yield _layer(9, width_out, width_out, grid)
            yield _layer(3, width_out, width_out, grid)
            continue
        yield _layer(27, width, width_out, grid)
        yield _layer(27, width_out, width_out, grid)
        if width != width_out:
            yield _layer(1, width, width_out, grid)
        width = width_out


def _fold(stage: VAEStage, after: int, grid: Grid, small: Grid) -> Iterator[Layer]:
    """`Down` of the factorised kind: space first."""
    space = (grid[0], *small[1:])
    yield _layer(4 if stage.halves_space else 1, stage.width, after, space)
    if stage.halves_time:
        yield _layer(3, after, after, small)


def _unfold(stage: VAEStage, width: int, grid: Grid, large: Grid) -> Iterator[Layer]:
    """`Up` of the factorised kind: time first."""
    if stage.halves_time:
        yield _layer(1, width, 2 * width, grid)
    yield _layer(1, width, stage.width * (4 if stage.halves_space else 1), (large[0], *grid[1:]))


def _down(stage: VAEStage, grid: Grid, small: Grid) -> Iterator[Layer]:
    """`Down` of the full kind."""
    if stage.halves_space:
        yield _layer(9, stage.width, stage.width, (grid[0], *small[1:]))
    if stage.halves_time:
        yield _layer(3, stage.width, stage.width, small)


def _up(stage: VAEStage, width: int, grid: Grid, large: Grid) -> Iterator[Layer]:
    """`Up` of the full kind."""
    if stage.halves_time:
        yield _layer(3, width, 2 * width, grid)
    if stage.halves_space:
        yield _layer(9, width, width // 2, large)


def _middle(vae: VAESpec, width: int, grid: Grid) -> Iterator[Layer]:
    yield from _blocks(vae, width, width, grid, 2)
    yield _norm(width)
    yield _layer(1, width, 3 * width, grid)
    t, h, w = grid
    yield Layer(width * width, math.prod(grid), width, attention=2 * t * (h * w) ** 2 * width)


def _layer(taps: int, width: int, width_out: int, grid: Grid) -> Layer:
    return Layer(taps * width * width_out, math.prod(grid), width_out)


def _norm(width: int) -> Layer:
    return Layer(0, 0, width)


def _halved(grid: Grid, stage: VAEStage) -> Grid:
    t, h, w = grid
    t = 1 + (t - 1) // 2 if stage.halves_time else t
    return (t, h // 2, w // 2) if stage.halves_space else (t, h, w)


def _doubled(grid: Grid, stage: VAEStage) -> Grid:
    t, h, w = grid
    t = 2 * t - 1 if stage.halves_time else t
    return (t, 2 * h, 2 * w) if stage.halves_space else (t, h, w)
