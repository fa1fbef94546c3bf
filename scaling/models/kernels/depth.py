"""Squares of pixels to channels and back, with channels last, as one copy of a permuted view."""

import torch.nn.functional as F
from torch import Tensor


def space_to_depth(x: Tensor, factor: int) -> Tensor:
    """(b, t, h, w, c) -> (b, t, h/factor, w/factor, factor*factor*c)."""
    b, t, h, w, c = x.shape
    x = x.reshape(b, t, h // factor, factor, w // factor, factor, c)
    return x.permute(0, 1, 2, 4, 3, 5, 6).reshape(b, t, h // factor, w // factor, factor * factor * c)


def space_to_depth_reference(x: Tensor, factor: int) -> Tensor:
    """torch's `pixel_unshuffle`, which has channels first, and of a square the channel before the pixel."""
    squares = F.pixel_unshuffle(x.movedim(-1, 2), factor)  # (b, t, c*factor*factor, h/factor, w/factor)
    b, t, _, h, w = squares.shape
    by_channel = squares.reshape(b, t, x.shape[-1], factor**2, h, w)
    return by_channel.permute(0, 1, 4, 5, 3, 2).flatten(-2)


def depth_to_space(x: Tensor, factor: int) -> Tensor:
    """(b, t, h, w, factor*factor*c) -> (b, t, h*factor, w*factor, c); the inverse of `space_to_depth`."""
    b, t, h, w, c = x.shape
    x = x.reshape(b, t, h, w, factor, factor, c // factor**2)
    return x.permute(0, 1, 2, 4, 3, 5, 6).reshape(b, t, h * factor, w * factor, c // factor**2)


def depth_to_space_reference(x: Tensor, factor: int) -> Tensor:
    """torch's `pixel_shuffle`, with the same change of order as in `space_to_depth_reference`."""
    b, t, h, w, c = x.shape
    by_channel = x.reshape(b, t, h, w, factor**2, c // factor**2).permute(0, 1, 5, 4, 2, 3)
    return F.pixel_shuffle(by_channel.reshape(b, t, c, h, w), factor).movedim(2, -1)
