"""Where packed clips lie in a batch, and how values that belong to a clip meet its tokens.

One shape in the whole batch: rows are clips, and per-clip values broadcast. Mixed shapes: a single row, and a token
looks its clip's values up. What a backward pass needs of them is kept by clip and not by token: four values for each
token in every block would be more than all the other activations.
"""

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from scaling.accounting.geometry import Grid
from scaling.models.attention import Segments
from scaling.models.rope import absolute, rotation


class Layout:
    """The geometry of one packed batch. Tokens are (rows, tokens per row, width) in the model."""

    def __init__(self, grids: Sequence[Grid], head_dim: int, device: torch.device) -> None:
        self.segments = Segments(tuple(math.prod(grid) for grid in grids), device)
        self.uniform = len(set(grids)) == 1
        self.rows = len(grids) if self.uniform else 1
        distinct = grids[:1] if self.uniform else grids
        turns = [rotation(grid, head_dim, device) for grid in distinct]
        self.cos, self.sin = (torch.cat(parts)[:, None, None] for parts in zip(*turns, strict=True))
        self.positions = torch.cat([absolute(grid, device) for grid in distinct])
        if self.uniform:
            return
        # made at once, because torch.compile does not look into what is made when it is asked for
        lengths = torch.tensor(self.segments.lengths)
        self.lengths = lengths.to(device)
        """(clips,): the tokens of each; of mixed shapes alone, as the next."""
        self.clip_of_token = torch.arange(len(lengths)).repeat_interleave(lengths).to(device)
        """(tokens,): the clip's place in the batch."""

    def modulate(self, x: Tensor, scale: Tensor, shift: Tensor) -> Tensor:
        """x * (1 + scale) + shift. x: (rows, tokens per row, width); scale, shift: (clips, width)."""
        if self.uniform:
            return x * (1 + scale[:, None]) + shift[:, None]
        return self._by_clip(x, 1 + scale, shift)

    def add_gated(self, x: Tensor, y: Tensor, gate: Tensor) -> Tensor:
        """x + gate * y. x, y: (rows, tokens per row, width); gate: (clips, width)."""
        if self.uniform:
            return x + gate[:, None] * y
        return x + self._by_clip(y, gate, None)

    def _by_clip(self, x: Tensor, factor: Tensor, shift: Tensor | None) -> Tensor:
        return ByClip.apply(x[0], factor, shift, self.clip_of_token, self.lengths)[None]


class ByClip(torch.autograd.Function):
    """`apply(x, factor, shift, clip_of_token, lengths)` = x * factor + shift, with x (tokens, width), and factor and
    shift, which may be None, (clips, width). The result has the wider of the types of x and factor."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, factor: Tensor, shift: Tensor | None, clip_of_token: Tensor, lengths: Tensor
    ) -> Tensor:
        ctx.save_for_backward(x, factor, clip_of_token, lengths)
        scaled = x * factor.index_select(0, clip_of_token)
        return scaled if shift is None else scaled + shift.index_select(0, clip_of_token)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, Tensor | None, None, None]:
        x, factor, clip_of_token, lengths = ctx.saved_tensors
        of_x = (grad * factor.index_select(0, clip_of_token)).to(x.dtype)
        of_factor = sum_by_clip(grad * x, clip_of_token, lengths).to(factor.dtype)
        of_shift = sum_by_clip(grad, clip_of_token, lengths) if ctx.needs_input_grad[2] else None
        return of_x, of_factor, of_shift, None, None


def sum_by_clip(x: Tensor, clip_of_token: Tensor, lengths: Tensor) -> Tensor:
    """(tokens, width) -> (clips, width), always in the same order. On a CPU `index_add_` is ten times faster than
    `segment_reduce`; on a GPU it adds in whatever order its threads come, each waiting for the others."""
    if x.is_cuda:
        # `unsafe`, because to check the lengths it would wait for the device
        return torch.segment_reduce(x.contiguous(), "sum", lengths=lengths, axis=0, unsafe=True)
    return x.new_zeros(len(lengths), x.shape[1]).index_add_(0, clip_of_token, x)
