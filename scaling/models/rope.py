"""Where a token lies in its clip: the angles of its rotation, and its absolute position as features.

Rotary position embedding over three axes (RoFormer, arXiv 2104.09864, equation 34), split over the axes as Wan 2.1 does
it: some channels of every head turn with t, some with h and some with w. Only differences of positions matter, so a
grid of any size, also one never trained, has positions. The rotation itself is in `scaling.models.kernels.rotary`.
"""

from functools import lru_cache

import torch
from torch import Tensor

from scaling.accounting.geometry import POSITION_FEATURES, Grid

THETA = 100.0
"""Longest wavelength over 2 pi, in tokens: our axes are short, so the 10 000 of language models would idle."""


def axis_channels(head_dim: int) -> tuple[int, int, int]:
    """How many of a head's channels turn with t, h, w: pairs in equal shares, and the rest to t."""
    pairs = head_dim // 2
    side = pairs // 3
    return 2 * (pairs - 2 * side), 2 * side, 2 * side


@lru_cache(maxsize=256)
def rotation(grid: Grid, head_dim: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Cosine and sine of every token's angles, each (t*h*w, head_dim) in float32, for tokens in t, h, w order. Channel
    i and i + head_dim/2 turn together, so the second half repeats the first."""
    angles = []
    positions = torch.cartesian_prod(*(torch.arange(n, dtype=torch.float32) for n in grid)).reshape(-1, 3)
    for axis, channels in enumerate(axis_channels(head_dim)):
        frequencies = THETA ** -(torch.arange(channels // 2, dtype=torch.float32) / max(channels // 2, 1))
        angles.append(positions[:, axis, None] * frequencies)
    angle = torch.cat([*angles, *angles], dim=1)
    return angle.cos().to(device), angle.sin().to(device)


@lru_cache(maxsize=256)
def absolute(grid: Grid, device: torch.device) -> Tensor:
    """Where each token lies in its clip, (t*h*w, POSITION_FEATURES) float32: sines and cosines of the position as a
    share of the grid, four octaves an axis. Rotation alone does not say how far a token is from the edge."""
    n_octaves = POSITION_FEATURES // 6
    centers = torch.cartesian_prod(*((torch.arange(n) + 0.5) / n for n in grid)).reshape(-1, 3)
    angles = (centers[:, :, None] * (torch.pi * 2.0 ** (torch.arange(n_octaves) - 1))).flatten(1)
    return torch.cat([angles.cos(), angles.sin()], dim=1).to(device)
