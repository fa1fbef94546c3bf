"""Rotary position embedding over three axes: a share of every head's channels turns with t, h and w each.

The rotation of RoFormer (arXiv 2104.09864, equation 34), split over the axes as Wan 2.1 does it. Only differences of
positions matter, so a grid of any size, also one never trained, has positions.
"""

from functools import lru_cache

import torch
from torch import Tensor

from scaling.geometry import POSITION_FEATURES, Grid

THETA = 100.0
"""Longest wavelength over 2 pi, in tokens: our axes are short, so the 10 000 of language models would idle."""


def axis_channels(head_dim: int) -> tuple[int, int, int]:
    """How many of a head's channels turn with t, h, w: pairs shared out evenly, the rest to t."""
    pairs = head_dim // 2
    side = pairs // 3
    return 2 * (pairs - 2 * side), 2 * side, 2 * side


@lru_cache(maxsize=256)
def rotation(grid: Grid, head_dim: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Cosine and sine of every token's angles, each (t*h*w, head_dim/2) in float32, for tokens in t, h, w order."""
    angles = []
    positions = torch.cartesian_prod(*(torch.arange(n, dtype=torch.float32) for n in grid)).reshape(-1, 3)
    for axis, channels in enumerate(axis_channels(head_dim)):
        frequencies = THETA ** -(torch.arange(channels // 2, dtype=torch.float32) / max(channels // 2, 1))
        angles.append(positions[:, axis, None] * frequencies)
    angle = torch.cat(angles, dim=1)
    return angle.cos().to(device), angle.sin().to(device)


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Turns channel pairs (i, i + head_dim/2). x: (..., tokens, heads, head_dim); cos, sin: (tokens, head_dim/2)."""
    cos, sin = cos[:, None, :].to(x.dtype), sin[:, None, :].to(x.dtype)
    first, second = x.chunk(2, dim=-1)
    return torch.cat([first * cos - second * sin, second * cos + first * sin], dim=-1)


@lru_cache(maxsize=256)
def absolute(grid: Grid, device: torch.device) -> Tensor:
    """Where each token lies in its clip, (t*h*w, POSITION_FEATURES) float32: sines and cosines of the position as a
    share of the grid, four octaves an axis. Rotation alone does not tell a token how far the wall is."""
    n_octaves = POSITION_FEATURES // 6
    centres = torch.cartesian_prod(*((torch.arange(n) + 0.5) / n for n in grid)).reshape(-1, 3)
    angles = (centres[:, :, None] * (torch.pi * 2.0 ** (torch.arange(n_octaves) - 1))).flatten(1)
    return torch.cat([angles.cos(), angles.sin()], dim=1).to(device)
