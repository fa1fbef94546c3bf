"""The adversary of the VAE: the discriminator, its loss and its optimizer. When it takes part in the training is up to
`scaling.training.vae.VAEModule`."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from scaling.distributed.group import sum_over_ranks
from scaling.models.discriminator import Discriminator
from scaling.training.checkpoints import Groups, optimizer_tensors, restore_optimizer

LEARNING_RATE, BETAS = 1e-4, (0.0, 0.99)
"""Settings of the discriminator's AdamW: those of MAGVIT (arXiv 2212.05199), without a schedule."""
MAX_GRAD_NORM = 1.0
"""Norm to which the discriminator's gradients are clipped."""


@dataclass(frozen=True)
class RestoredClips:
    """Clips of one size, (b, t, h, w, 3), and their reconstructions by the VAE. No gradient flows into either."""

    real: Tensor
    """The true clips."""
    restored: Tensor
    """Their reconstructions."""
    share: float
    """The number of these clips divided by that of the whole update."""


class Adversary(nn.Module):
    """A discriminator that is trained with the hinge loss (Lim & Ye, arXiv 1705.02894), averaged over all logits."""

    def __init__(self) -> None:
        super().__init__()
        self.discriminator = Discriminator()
        self.optimizer = torch.optim.AdamW(
            self.discriminator.parameters(), lr=LEARNING_RATE, betas=BETAS, weight_decay=0.0, fused=True
        )

    def generator_loss(self, restored: Tensor) -> Tensor:
        """The loss of the VAE, -D(restored), for reconstructions (b, t, h, w, 3). No gradient reaches the
        discriminator."""
        self.discriminator.requires_grad_(False)
        loss: Tensor = -self.discriminator(restored).mean()
        self.discriminator.requires_grad_(True)
        return loss

    def loss(self, pairs: Sequence[RestoredClips]) -> Tensor:
        """The loss of the discriminator, (max(0, 1 - D(real)) + max(0, 1 + D(restored))) / 2, each pair weighted by its
        share."""
        losses = []
        for pair in pairs:
            real = F.relu(1 - self.discriminator(pair.real)).mean()
            restored = F.relu(1 + self.discriminator(pair.restored)).mean()
            losses.append((real + restored) / 2 * pair.share)
        return torch.stack(losses).sum()

    def step(self) -> None:
        """Updates the discriminator with the gradients that the backward passes of `loss` have accumulated, summed over
        all ranks."""
        for parameter in self.discriminator.parameters():
            assert parameter.grad is not None
            parameter.grad = sum_over_ranks(parameter.grad)
        nn.utils.clip_grad_norm_(self.discriminator.parameters(), MAX_GRAD_NORM)
        self.optimizer.step()
        self.optimizer.zero_grad()

    def state(self) -> Groups:
        """The discriminator's weights and its optimizer's moments, as files of a checkpoint."""
        weights = {name: parameter.detach() for name, parameter in self.discriminator.named_parameters()}
        return {"discriminator": weights, "discriminator-adamw": optimizer_tensors(self.optimizer)}

    def restore(self, groups: Groups) -> None:
        """Restores what `state` returned."""
        self.discriminator.load_state_dict(groups["discriminator"])
        restore_optimizer(self.optimizer, groups["discriminator-adamw"])
