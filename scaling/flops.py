"""Closed-form parameters and FLOPs of the models, so that a plan needs no torch.

One multiply-add is two FLOPs; training is three forwards, less the gradients of the inputs, which nobody computes
(about 1 % of a small model); attention is counted; recomputation, element-wise work and the optimiser are not.
`torch.utils.flop_counter` must agree (tests/test_flops.py).
"""

import math
from collections.abc import Iterable

from scaling.geometry import POSITION_FEATURES, TEXT_DIM, TIME_FEATURES, Grid, latent_size
from scaling.specs import DiTSpec, VAESpec


def dit_params(dit: DiTSpec, latent_channels: int) -> dict[str, int]:
    """Parameters by group; N of the law is everything but `embeddings`."""
    d, hidden, patch_dim = dit.width, round(dit.mlp_ratio * dit.width), latent_channels * dit.patch**2
    block = 6 * d + 4 * d * d + 2 * dit.head_dim + d + 4 * d * d + 2 * d * hidden
    return {
        "blocks": dit.depth * block,
        "modulation": 6 * (d * d + d) + 2 * (d * d + d),
        "head": (d + 1) * patch_dim,
        "embeddings": (patch_dim + 1) * d
        + POSITION_FEATURES * d
        + 2 * (TEXT_DIM + 1) * d
        + TEXT_DIM
        + (TIME_FEATURES + 1) * d
        + (d + 1) * d,
    }


def non_embedding(groups: dict[str, int]) -> int:
    """N of the law from the groups of `dit_params`."""
    return sum(count for name, count in groups.items() if name != "embeddings")


def dit_forward(dit: DiTSpec, latent_channels: int, grids: Iterable[Grid], text_tokens: int) -> float:
    """FLOPs of one forward over a packed batch of clips with these token grids."""
    grids = list(grids)
    d, hidden = dit.width, round(dit.mlp_ratio * dit.width)
    lengths = [math.prod(grid) for grid in grids]
    tokens, clips = sum(lengths), len(lengths)
    words = clips * text_tokens
    condition = clips * d * (TIME_FEATURES + TEXT_DIM + d + 6 * d + 2 * d) + words * TEXT_DIM * d
    block = tokens * (4 * d * d + 2 * d * d + 2 * d * hidden) + words * 2 * d * d
    attention = sum(2 * length * length * d + 2 * length * text_tokens * d for length in lengths)
    head = tokens * d * latent_channels * dit.patch**2
    return _embed(dit, latent_channels, grids) + 2.0 * (condition + dit.depth * (block + attention) + head)


def dit_training(dit: DiTSpec, latent_channels: int, grids: Iterable[Grid], text_tokens: int) -> float:
    """FLOPs of one training step on a packed batch."""
    grids = list(grids)
    inputs = _embed(dit, latent_channels, grids) + 2.0 * len(grids) * TIME_FEATURES * dit.width
    return 3.0 * dit_forward(dit, latent_channels, grids, text_tokens) - inputs


def _embed(dit: DiTSpec, latent_channels: int, grids: list[Grid]) -> float:
    """FLOPs to embed patches and positions."""
    lengths = [math.prod(grid) for grid in grids]
    positions = lengths[0] if len(set(grids)) == 1 else sum(lengths)  # one shape shares its positions
    return 2.0 * dit.width * (sum(lengths) * latent_channels * dit.patch**2 + positions * POSITION_FEATURES)


def vae_training(vae: VAESpec, frames: int, height: int, width: int) -> float:
    """FLOPs of one training step on one clip."""
    both = vae_encode(vae, frames, height, width) + vae_decode(vae, frames, height, width)
    return 3.0 * both - 2.0 * math.prod(_patched(vae, frames, height, width)) * 3 * vae.patch**2 * vae.stages[0].width


def vae_encode(vae: VAESpec, frames: int, height: int, width: int) -> float:
    """FLOPs to encode one clip."""
    positions, total = _patched(vae, frames, height, width), 0.0
    total += math.prod(positions) * 3 * vae.patch**2 * vae.stages[0].width
    for stage, after in zip(vae.stages, vae.widths_after, strict=True):
        total += vae.blocks * math.prod(positions) * _block(stage.width)
        if stage.down == "none":
            continue
        t, h, w = positions
        halves_space, halves_time = stage.down in ("space", "both"), stage.down in ("time", "both")
        h, w = (h // 2, w // 2) if halves_space else (h, w)
        total += t * h * w * stage.width * (4 if halves_space else 1) * after
        t = 1 + (t - 1) // 2 if halves_time else t
        total += t * h * w * 3 * after * after * halves_time
        positions = (t, h, w)
    return 2.0 * (total + math.prod(positions) * vae.widths_after[-1] * 2 * vae.latent_channels)


def vae_decode(vae: VAESpec, frames: int, height: int, width: int) -> float:
    """FLOPs to decode one clip to this size."""
    positions, total = latent_size(frames, height, width, vae), 0.0
    total += math.prod(positions) * vae.latent_channels * vae.widths_after[-1]
    for stage, after in zip(reversed(vae.stages), reversed(vae.widths_after), strict=True):
        if stage.down != "none":
            t, h, w = positions
            halves_space, halves_time = stage.down in ("space", "both"), stage.down in ("time", "both")
            total += t * h * w * 2 * after * after * halves_time
            t = 2 * t - 1 if halves_time else t
            total += t * h * w * after * stage.width * (4 if halves_space else 1)
            positions = (t, 2 * h, 2 * w) if halves_space else (t, h, w)
        total += vae.blocks * math.prod(positions) * _block(stage.width)
    return 2.0 * (total + math.prod(positions) * vae.stages[0].width * 3 * vae.patch**2)


def _patched(vae: VAESpec, frames: int, height: int, width: int) -> tuple[int, int, int]:
    return frames, height // vae.patch, width // vae.patch


def _block(width: int) -> int:
    """Multiply-adds of a residual block per position: 3x3 in space, 3 taps in time."""
    return (9 + 3) * width * width
