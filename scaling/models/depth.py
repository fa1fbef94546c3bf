"""Squares of pixels to channels and back, as views that one copy makes real. Channels come last."""

from torch import Tensor


def space_to_depth(x: Tensor, factor: int) -> Tensor:
    """(b, t, h, w, c) -> (b, t, h/factor, w/factor, factor*factor*c)."""
    b, t, h, w, c = x.shape
    x = x.reshape(b, t, h // factor, factor, w // factor, factor, c)
    return x.permute(0, 1, 2, 4, 3, 5, 6).reshape(b, t, h // factor, w // factor, factor * factor * c)


def depth_to_space(x: Tensor, factor: int) -> Tensor:
    """(b, t, h, w, factor*factor*c) -> (b, t, h*factor, w*factor, c); undoes `space_to_depth`."""
    b, t, h, w, c = x.shape
    x = x.reshape(b, t, h, w, factor, factor, c // factor**2)
    return x.permute(0, 1, 2, 4, 3, 5, 6).reshape(b, t, h * factor, w * factor, c // factor**2)
