"""Captions as tensors: what the text encoder makes, the cache keeps and the DiT reads."""

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Caption:
    """n captions, one a row."""

    states: Tensor
    """(n, m, text_dim) float32 token states; zeros where there is no token."""
    mask: Tensor
    """(n, m) bool; True where there is a token. A row of False is a dropped caption."""
    pooled: Tensor
    """(n, text_dim) float32: mean of the token states, of length 1."""

    def to(self, device: torch.device) -> "Caption":
        return Caption(self.states.to(device), self.mask.to(device), self.pooled.to(device))

    def dropped(self, drop: Tensor) -> "Caption":
        """Without the captions where `drop` (n,) is True."""
        return Caption(self.states, self.mask & ~drop[:, None], self.pooled)

    def rows(self, index: list[int]) -> "Caption":
        return Caption(self.states[index], self.mask[index], self.pooled[index])
