"""What all text encoders share: encoding each distinct caption once, padding, batches, pooling.

The networks are in the files beside this one. A text encoder is frozen: nothing in it is ever trained.
"""

from abc import ABC, abstractmethod

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from scaling.text.encoded_captions import EncodedCaptions

BATCH_CAPTIONS = 64


class TextEncoder(nn.Module, ABC):
    """Maps captions to token states and one pooled vector per caption."""

    width: int
    """Width of the token states."""
    most_tokens: int
    """Number of tokens of the longest caption that the network reads."""

    @abstractmethod
    def token_ids(self, captions: list[str], max_tokens: int) -> list[list[int]]:
        """The token ids of each caption, cut to `max_tokens`, with the special tokens of the encoder included."""

    @abstractmethod
    def forward(self, ids: Tensor, mask: Tensor) -> Tensor:
        """Token ids (n, m) and a mask (n, m) -> states (n, m, width). Masked tokens do not change the states of
        others."""

    @torch.no_grad()  # not inference_mode: a model is trained on these states, so autograd must accept them
    def encode(self, captions: list[str], max_tokens: int) -> EncodedCaptions:
        """Encodes one or more captions on the encoder's device, equal captions once. The result is on the CPU.

        Every caption is padded to `max_tokens`, so its result does not depend on the other captions (to 1e-5).
        """
        assert 2 < max_tokens <= self.most_tokens, f"max_tokens is {max_tokens}"
        row_of = {caption: row for row, caption in enumerate(dict.fromkeys(captions))}
        ids = torch.zeros(len(row_of), max_tokens, dtype=torch.long)
        mask = torch.zeros(len(row_of), max_tokens, dtype=torch.bool)
        for row, tokens in enumerate(self.token_ids(list(row_of), max_tokens)):
            ids[row, : len(tokens)] = torch.tensor(tokens, dtype=torch.long)
            mask[row, : len(tokens)] = True
        device = next(self.parameters()).device
        batches = [
            self(id_batch.to(device), mask_batch.to(device)).float().cpu()
            for id_batch, mask_batch in zip(
                torch.split(ids, BATCH_CAPTIONS), torch.split(mask, BATCH_CAPTIONS), strict=True
            )
        ]
        states = torch.cat(batches).masked_fill(~mask[..., None], 0)
        # an empty caption has no token at all if the encoder adds no special tokens
        pooled = F.normalize(states.sum(dim=1) / mask.sum(dim=1, keepdim=True).clamp(min=1), dim=1)
        order = torch.tensor([row_of[caption] for caption in captions], dtype=torch.long)
        return EncodedCaptions(states[order], mask[order], pooled[order])
