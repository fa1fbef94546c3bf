"""Captions as tensors: what the text encoder makes, the latents stage stores and the DiT reads.

What a caption says is in `scaling.data.captions`.
"""

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class EncodedCaptions:
    """n captions, one in each row."""

    states: Tensor
    """(n, m, text_dim) float32 token states; zeros where there is no token."""
    mask: Tensor
    """(n, m) bool; True where there is a token. A row that is False everywhere is a dropped caption."""
    pooled: Tensor
    """(n, text_dim) float32: the mean of the token states, normalized to length 1."""

    def to(self, device: torch.device) -> "EncodedCaptions":
        return EncodedCaptions(self.states.to(device), self.mask.to(device), self.pooled.to(device))

    def dropped(self, drop: Tensor) -> "EncodedCaptions":
        """The same with the captions removed where `drop` (n,) is True."""
        return EncodedCaptions(self.states, self.mask & ~drop[:, None], self.pooled)

    def rows(self, index: list[int]) -> "EncodedCaptions":
        """The captions of these rows, in this order."""
        return EncodedCaptions(self.states[index], self.mask[index], self.pooled[index])
