"""The VAE's opponent: the discriminator, its loss, its optimizer. When it plays is the business of `VAEModule`."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from scaling.distributed.group import sum_over_ranks
from scaling.models.discriminator import Discriminator
from scaling.training.checkpoints import Groups, optimizer_tensors, restore_optimizer

RATE, BETAS = 1e-4, (0.0, 0.99)
"""Those of MAGVIT (arXiv 2212.05199), without a schedule."""
CLIP = 1.0
"""Largest gradient norm."""


@dataclass(frozen=True)
class ReconstructionPair:
    """Clips of one size, (b, t, h, w, 3), and what the VAE made of them; no gradient flows into either."""

    real: Tensor
    restored: Tensor
    share: float
    """Of the clips of the whole update."""


class Adversary(nn.Module):
    """Hinge losses (Lim & Ye, arXiv 1705.02894), of means over all logits."""

    def __init__(self) -> None:
        super().__init__()
        self.discriminator = Discriminator()
        self.optimizer = torch.optim.AdamW(
            self.discriminator.parameters(), lr=RATE, betas=BETAS, weight_decay=0.0, fused=True
        )

    def generator_loss(self, restored: Tensor) -> Tensor:
        """What the VAE minimises: -D(restored). No gradient reaches the discriminator. restored: (b, t, h, w, 3)."""
        self.discriminator.requires_grad_(False)
        loss = -self.discriminator(restored).mean()
        self.discriminator.requires_grad_(True)
        return loss

    def loss(self, pairs: Sequence[ReconstructionPair]) -> Tensor:
        """What the discriminator minimises: (max(0, 1 - D(real)) + max(0, 1 + D(restored))) / 2, each pair by its
        share."""
        losses = []
        for pair in pairs:
            real = F.relu(1 - self.discriminator(pair.real)).mean()
            restored = F.relu(1 + self.discriminator(pair.restored)).mean()
            losses.append((real + restored) / 2 * pair.share)
        return torch.stack(losses).sum()

    def step(self) -> None:
        """Updates the discriminator by the gradients that backward passes of `loss` have left, all ranks' together."""
        for parameter in self.discriminator.parameters():
            assert parameter.grad is not None
            parameter.grad = sum_over_ranks(parameter.grad)
        nn.utils.clip_grad_norm_(self.discriminator.parameters(), CLIP)
        self.optimizer.step()
        self.optimizer.zero_grad()

    def state(self) -> Groups:
        """Files of a checkpoint: weights and moments."""
        weights = {name: parameter.detach() for name, parameter in self.discriminator.named_parameters()}
        return {"discriminator": weights, "discriminator-adamw": optimizer_tensors(self.optimizer)}

    def restore(self, groups: Groups) -> None:
        """Puts back what `state` gave."""
        self.discriminator.load_state_dict(groups["discriminator"])
        restore_optimizer(self.optimizer, groups["discriminator-adamw"])
