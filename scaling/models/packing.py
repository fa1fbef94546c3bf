"""Where packed clips lie in a batch, and how values that belong to a clip meet its tokens.

One shape in the whole batch: rows are clips, and per-clip values broadcast. Mixed shapes: a single row, and per-clip
values meet their clips run by run on a CPU, token by token on a GPU.
"""

import math
from collections.abc import Callable, Sequence
from functools import cached_property

import torch
from torch import Tensor

from scaling.geometry import Grid
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

    @cached_property
    def clip_of_token(self) -> Tensor:
        """(tokens,): the clip's place in the batch."""
        lengths = torch.tensor(self.segments.lengths)
        return torch.arange(len(lengths)).repeat_interleave(lengths).to(self.segments.device)

    def modulate(self, x: Tensor, scale: Tensor, shift: Tensor) -> Tensor:
        """x * (1 + scale) + shift. x: (rows, tokens per row, width); scale, shift: (clips, width)."""
        return self._with_clips(lambda x, scale, shift: x * (1 + scale) + shift, (x,), (scale, shift))

    def add_gated(self, x: Tensor, y: Tensor, gate: Tensor) -> Tensor:
        """x + gate * y. x, y: (rows, tokens per row, width); gate: (clips, width)."""
        return self._with_clips(lambda x, y, gate: x + gate * y, (x, y), (gate,))

    def _with_clips(
        self, function: Callable[..., Tensor], of_tokens: tuple[Tensor, ...], of_clips: tuple[Tensor, ...]
    ) -> Tensor:
        if self.uniform:
            return function(*of_tokens, *(each[:, None] for each in of_clips))
        if of_tokens[0].is_cuda:
            return function(*of_tokens, *(each[self.clip_of_token][None] for each in of_clips))
        counts = [count for count, _ in self.segments.runs]
        tokens = [self.segments.split(each[0]) for each in of_tokens]
        clips = [each[:, None].split(counts) for each in of_clips]
        return torch.cat([function(*run).flatten(0, 1) for run in zip(*tokens, *clips, strict=True)])[None]
