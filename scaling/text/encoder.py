"""What every text encoder does alike: distinct captions, padding, batches, pooling. Not a network: those are beside it.

A text encoder is frozen: nothing in it is ever trained.
"""

from abc import ABC, abstractmethod

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from scaling.text.caption import Caption

BATCH_CAPTIONS = 64


class TextEncoder(nn.Module, ABC):
    """Captions in; token states and one pooled vector per caption out."""

    width: int
    """Of the token states."""
    most_tokens: int
    """Longest caption that the network reads."""

    @abstractmethod
    def token_ids(self, captions: list[str], max_tokens: int) -> list[list[int]]:
        """The tokens of each caption, cut to `max_tokens`, of which the encoder's own marks are some."""

    @abstractmethod
    def forward(self, ids: Tensor, mask: Tensor) -> Tensor:
        """Token ids (n, m) and which of them count (n, m) -> states (n, m, width); the others do not change them."""

    @torch.no_grad()  # not inference_mode: a model is trained on these states, so autograd must accept them
    def encode(self, captions: list[str], max_tokens: int) -> Caption:
        """Encodes one or more captions, each different one once, on the encoder's device; the result is on the CPU.

        Every caption is padded to `max_tokens`, so its result does not depend on the others (to 1e-5).
        """
        assert 2 < max_tokens <= self.most_tokens, f"max_tokens is {max_tokens}"
        rows = {caption: row for row, caption in enumerate(dict.fromkeys(captions))}
        ids = torch.zeros(len(rows), max_tokens, dtype=torch.long)
        mask = torch.zeros(len(rows), max_tokens, dtype=torch.bool)
        for row, tokens in enumerate(self.token_ids(list(rows), max_tokens)):
            ids[row, : len(tokens)] = torch.tensor(tokens, dtype=torch.long)
            mask[row, : len(tokens)] = True
        device = next(self.parameters()).device
        batches = [
            self(part.to(device), kept.to(device)).float().cpu()
            for part, kept in zip(ids.split(BATCH_CAPTIONS), mask.split(BATCH_CAPTIONS), strict=True)
        ]
        states = torch.cat(batches).masked_fill(~mask[..., None], 0)
        # an empty caption has no token at all where the encoder adds no marks
        pooled = F.normalize(states.sum(dim=1) / mask.sum(dim=1, keepdim=True).clamp(min=1), dim=1)
        order = torch.tensor([rows[caption] for caption in captions], dtype=torch.long)
        return Caption(states[order], mask[order], pooled[order])
