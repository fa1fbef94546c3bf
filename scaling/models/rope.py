"""Rotary position embedding over three axes: a share of every head's channels turns with t, h and w each.

The rotation of RoFormer (arXiv 2104.09864, equation 34), split over the axes as Wan 2.1 does it. Only differences of
positions matter, so a grid of any size, also one never trained, has positions.
"""

from functools import lru_cache
from typing import Any

import torch
from torch import Tensor

from scaling.accounting.geometry import POSITION_FEATURES, Grid

THETA = 100.0
"""Longest wavelength over 2 pi, in tokens: our axes are short, so the 10 000 of language models would idle."""
EPS = 1e-6


def axis_channels(head_dim: int) -> tuple[int, int, int]:
    """How many of a head's channels turn with t, h, w: pairs shared out evenly, the rest to t."""
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


class RMSNormRotate(torch.autograd.Function):
    """Root-mean-square normalisation of the last axis, a gain per channel, and the rotation: one node of the graph.

    `apply(x, gain, cos, sin)` with x: (..., head_dim), the others broadcasting against it. Returns the shape of x.

    Written out because torch runs the pieces as a dozen passes over memory: for queries and keys of 1280 tokens and
    three heads of 32 in bfloat16, on one core, forward and backward take 1.3 ms against 2.2 ms with F.rms_norm.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, gain: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        gain, cos, sin = (each.to(x.dtype) for each in (gain, cos, sin))
        wide = torch.promote_types(x.dtype, torch.float32)
        inverse = torch.rsqrt(x.to(wide).square().mean(-1, keepdim=True) + EPS).to(x.dtype)
        unit = x * inverse
        ctx.save_for_backward(unit, gain, inverse, cos, sin)
        y = unit * gain
        first, second = y.chunk(2, dim=-1)
        return torch.addcmul(y * cos, torch.cat([-second, first], dim=-1), sin)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, None, None]:
        unit, gain, inverse, cos, sin = ctx.saved_tensors
        first, second = (grad * sin).chunk(2, dim=-1)
        turned_back = torch.addcmul(torch.cat([second, -first], dim=-1), grad, cos)
        wide = torch.promote_types(grad.dtype, torch.float32)
        by_gain = (turned_back * unit).to(wide)
        axes = [axis for axis in range(unit.ndim) if gain.ndim + axis < unit.ndim or gain.shape[axis - unit.ndim] == 1]
        grad_gain = by_gain.sum(axes).reshape(gain.shape)
        grad_unit = turned_back * gain
        along = (grad_unit * unit).to(wide).mean(-1, keepdim=True).to(grad.dtype)
        return (grad_unit - unit * along) * inverse, grad_gain, None, None


@lru_cache(maxsize=256)
def absolute(grid: Grid, device: torch.device) -> Tensor:
    """Where each token lies in its clip, (t*h*w, POSITION_FEATURES) float32: sines and cosines of the position as a
    share of the grid, four octaves an axis. Rotation alone does not tell a token how far the wall is."""
    n_octaves = POSITION_FEATURES // 6
    centres = torch.cartesian_prod(*((torch.arange(n) + 0.5) / n for n in grid)).reshape(-1, 3)
    angles = (centres[:, :, None] * (torch.pi * 2.0 ** (torch.arange(n_octaves) - 1))).flatten(1)
    return torch.cat([angles.cos(), angles.sin()], dim=1).to(device)
