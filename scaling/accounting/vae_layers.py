"""The layers of the VAE by name, with what each costs. Imports no torch.

The lists follow `scaling.models.vae_factorised` and `scaling.models.vae_full` layer by layer (tests/test_flops.py
compares them with the modules).
"""

import math
from collections.abc import Iterator
from itertools import count

from scaling.accounting.geometry import PIXEL_CHANNELS, Grid
from scaling.accounting.layers import LayerCost
from scaling.core.specs import VAESpec, VAEStage


def encoder_layers(vae: VAESpec, grid: Grid) -> Iterator[LayerCost]:
    """Layers of the encoder on a clip of `grid` patches along t, h, w."""
    full = vae.convolution == "full"
    width, names = vae.stages[0].width, (f"encoder.{number}" for number in count())
    yield _outer("patch_in", vae, PIXEL_CHANNELS * vae.patch**2, width, grid, reads_data=True)
    for stage, after in zip(vae.stages, vae.widths_after, strict=True):
        for _ in range(vae.blocks):
            yield from _block(next(names), vae, width, stage.width, grid)
            width = stage.width
        if stage.down != "none":
            small = _halved(grid, stage)
            name = next(names)
            yield from _down(name, stage, grid, small) if full else _fold(name, stage, after, grid, small)
            grid = small
        width = width if full else after
    if full:
        yield from _middle(names, vae, width, grid)
    yield _norm(next(names), width)
    yield _outer("to_posterior", vae, width, 2 * vae.latent_channels, grid)


def decoder_layers(vae: VAESpec, grid: Grid) -> Iterator[LayerCost]:
    """Layers of the decoder on latents of `grid` along t, h, w."""
    full = vae.convolution == "full"
    width, names = vae.stages[-1].width, (f"decoder.{number}" for number in count())
    yield _outer("from_latent", vae, vae.latent_channels, width, grid)
    if full:
        yield from _middle(names, vae, width, grid)
    for stage in reversed(vae.stages):
        if stage.down != "none":
            large = _doubled(grid, stage)
            name = next(names)
            yield from _up(name, stage, width, grid, large) if full else _unfold(name, stage, width, grid, large)
            grid = large
            width = (width // 2 if stage.halves_space else width) if full else stage.width
        for _ in range(vae.blocks + full):
            yield from _block(next(names), vae, width, stage.width, grid)
            width = stage.width
    yield _norm(next(names), width)
    yield _outer("patch_out", vae, width, PIXEL_CHANNELS * vae.patch**2, grid)


def _outer(name: str, vae: VAESpec, width: int, width_out: int, grid: Grid, reads_data: bool = False) -> LayerCost:
    """A layer at an end of a half: a convolution of the full kind, a matrix of the factorised kind."""
    if vae.convolution == "full":
        return _layer(f"{name}.conv", 27, width, width_out, grid, reads_data)
    return _layer(name, 1, width, width_out, grid, reads_data)


def _block(name: str, vae: VAESpec, width: int, width_out: int, grid: Grid) -> Iterator[LayerCost]:
    """A residual block."""
    if vae.convolution == "factorised":
        yield _norm(f"{name}.norm_space", width)
        yield _layer(f"{name}.space.conv", 9, width, width, grid)
        yield _norm(f"{name}.norm_time", width)
        yield _layer(f"{name}.time.taps", 3, width, width, grid)
        return
    yield _norm(f"{name}.norm_1", width)
    yield _layer(f"{name}.conv_1.conv", 27, width, width_out, grid)
    yield _norm(f"{name}.norm_2", width_out)
    yield _layer(f"{name}.conv_2.conv", 27, width_out, width_out, grid)
    if width != width_out:
        yield _layer(f"{name}.shortcut", 1, width, width_out, grid)


def _fold(name: str, stage: VAEStage, after: int, grid: Grid, small: Grid) -> Iterator[LayerCost]:
    """`LinearDownsample` of the factorised kind: space first."""
    space = (grid[0], *small[1:])
    yield _layer(f"{name}.project", 4 if stage.halves_space else 1, stage.width, after, space)
    if stage.halves_time:
        yield _layer(f"{name}.time.taps", 3, after, after, small)


def _unfold(name: str, stage: VAEStage, width: int, grid: Grid, large: Grid) -> Iterator[LayerCost]:
    """`LinearUpsample` of the factorised kind: time first."""
    if stage.halves_time:
        yield _layer(f"{name}.unfold_time", 1, width, 2 * width, grid)
    yield _layer(f"{name}.project", 1, width, stage.width * (4 if stage.halves_space else 1), (large[0], *grid[1:]))


def _down(name: str, stage: VAEStage, grid: Grid, small: Grid) -> Iterator[LayerCost]:
    """`ConvDownsample` of the full kind."""
    if stage.halves_space:
        yield _layer(f"{name}.space.conv", 9, stage.width, stage.width, (grid[0], *small[1:]))
    if stage.halves_time:
        yield _layer(f"{name}.time.taps", 3, stage.width, stage.width, small)


def _up(name: str, stage: VAEStage, width: int, grid: Grid, large: Grid) -> Iterator[LayerCost]:
    """`ConvUpsample` of the full kind."""
    if stage.halves_time:
        yield _layer(f"{name}.time.taps", 3, width, 2 * width, grid)
    if stage.halves_space:
        yield _layer(f"{name}.space.conv", 9, width, width // 2, large)


def _middle(names: Iterator[str], vae: VAESpec, width: int, grid: Grid) -> Iterator[LayerCost]:
    """Two residual blocks around the attention inside each frame."""
    yield from _block(next(names), vae, width, width, grid)
    name, (t, h, w) = next(names), grid
    yield _norm(f"{name}.norm", width)
    yield _layer(f"{name}.qkv", 1, width, 3 * width, grid)
    yield LayerCost(f"{name}.attend", attention=2 * t * (h * w) ** 2 * width)
    yield _layer(f"{name}.out", 1, width, width, grid)
    yield from _block(next(names), vae, width, width, grid)


def _layer(name: str, taps: int, width: int, width_out: int, grid: Grid, reads_data: bool = False) -> LayerCost:
    """A matrix or convolution with a bias; `taps` input positions meet in each output position."""
    return LayerCost(name, taps * width * width_out, width_out, math.prod(grid), reads_data=reads_data)


def _norm(name: str, width: int) -> LayerCost:
    return LayerCost(name, vectors=width)


def _halved(grid: Grid, stage: VAEStage) -> Grid:
    t, h, w = grid
    t = 1 + (t - 1) // 2 if stage.halves_time else t
    return (t, h // 2, w // 2) if stage.halves_space else (t, h, w)


def _doubled(grid: Grid, stage: VAEStage) -> Grid:
    t, h, w = grid
    t = 2 * t - 1 if stage.halves_time else t
    return (t, 2 * h, 2 * w) if stage.halves_space else (t, h, w)
