"""Where packed clips lie in a batch, and how values that belong to a clip meet its tokens.

If the whole batch has one shape, rows are clips, and the values of a clip broadcast over its row. If shapes are mixed,
all tokens are a single row, and each token looks up the values of its clip. What the backward pass needs of these
values is then kept per clip and not per token: four values for each token in every block would be more than all the
other activations.
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.autograd.function import FunctionCtx

from scaling.accounting.geometry import Grid
from scaling.models.kernels.attention import Segments
from scaling.models.rope import absolute, rotation


class Layout:
    """The geometry of one packed batch. Tokens are (rows, tokens per row, width) in the model."""

    def __init__(self, grids: Sequence[Grid], head_dim: int, device: torch.device) -> None:
        self.segments = Segments(tuple(math.prod(grid) for grid in grids), device)
        self.uniform = len(set(grids)) == 1
        """Whether all clips have one shape."""
        self.rows = len(grids) if self.uniform else 1
        distinct = grids[:1] if self.uniform else grids
        angles = [rotation(grid, head_dim, device) for grid in distinct]
        self.cos, self.sin = (torch.cat(parts)[:, None, None] for parts in zip(*angles, strict=True))
        self.positions = torch.cat([absolute(grid, device) for grid in distinct])
        if self.uniform:
            return
        # made at once, because torch.compile does not look into what is made when it is asked for
        lengths = torch.tensor(self.segments.lengths)
        self.lengths = lengths.to(device)
        """(clips,): the number of tokens of each clip; of mixed shapes alone, as the next."""
        self.clip_of_token = torch.arange(len(lengths)).repeat_interleave(lengths).to(device)
        """(tokens,): the place in the batch of the token's clip."""

    def modulate(self, x: Tensor, scale: Tensor, shift: Tensor) -> Tensor:
        """x * (1 + scale) + shift. x: (rows, tokens per row, width); scale, shift: (clips, width)."""
        if self.uniform:
            return x * (1 + scale[:, None]) + shift[:, None]
        return scale_and_shift(x[0], 1 + scale, shift, self.clip_of_token, self.lengths)[None]

    def add_gated(self, x: Tensor, y: Tensor, gate: Tensor) -> Tensor:
        """x + gate * y. x, y: (rows, tokens per row, width); gate: (clips, width)."""
        if self.uniform:
            return x + gate[:, None] * y
        return x + scale_and_shift(y[0], gate, None, self.clip_of_token, self.lengths)[None]


def scale_and_shift(x: Tensor, factor: Tensor, shift: Tensor | None, clip_of_token: Tensor, lengths: Tensor) -> Tensor:
    """x * factor + shift with the factor and shift of each token's clip.

    x: (tokens, width); factor, shift: (clips, width); clip_of_token: (tokens,); lengths: (clips,) tokens of each clip.
    The result has the wider of the types of x and factor.
    """
    y: Tensor = _ScaleAndShift.apply(x, factor, shift, clip_of_token, lengths)  # type: ignore[no-untyped-call]
    return y


def scale_and_shift_reference(x: Tensor, factor: Tensor, shift: Tensor | None, clip_of_token: Tensor) -> Tensor:
    """x * factor + shift by indexing, which keeps a factor for every token until the backward pass."""
    scaled = x * factor[clip_of_token]
    return scaled if shift is None else scaled + shift[clip_of_token]


class _ScaleAndShift(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: FunctionCtx, x: Tensor, factor: Tensor, shift: Tensor | None, clip_of_token: Tensor, lengths: Tensor
    ) -> Tensor:
        ctx.save_for_backward(x, factor, clip_of_token, lengths)
        scaled = x * factor.index_select(0, clip_of_token)
        return scaled if shift is None else scaled + shift.index_select(0, clip_of_token)

    @staticmethod
    def backward(ctx: FunctionCtx, grad: Tensor) -> tuple[Tensor, Tensor, Tensor | None, None, None]:
        x, factor, clip_of_token, lengths = ctx.saved_tensors  # type: ignore[attr-defined]
        grad_x = (grad * factor.index_select(0, clip_of_token)).to(x.dtype)
        grad_factor = sum_by_clip(grad * x, clip_of_token, lengths).to(factor.dtype)
        needs_shift = ctx.needs_input_grad[2]  # type: ignore[attr-defined]
        grad_shift = sum_by_clip(grad, clip_of_token, lengths) if needs_shift else None
        return grad_x, grad_factor, grad_shift, None, None


def sum_by_clip(x: Tensor, clip_of_token: Tensor, lengths: Tensor) -> Tensor:
    """(tokens, width) -> (clips, width), always in the same order. On a CPU `index_add_` is ten times faster than
    `segment_reduce`; on a GPU it adds in whatever order its threads come, each waiting for the others."""
    if x.is_cuda:
        # `unsafe`, because checking the lengths would wait for the device
        return torch.segment_reduce(x.contiguous(), "sum", lengths=lengths, axis=0, unsafe=True)
    return x.new_zeros(len(lengths), x.shape[1]).index_add_(0, clip_of_token, x)


def sum_by_clip_reference(x: Tensor, lengths: Tensor) -> Tensor:
    """The sum of each clip's rows."""
    return torch.stack([clip.sum(0) for clip in torch.split(x, lengths.tolist())])
