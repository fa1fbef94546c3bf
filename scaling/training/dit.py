"""The DiT's LightningModule: a thin joint between the model and the flow's loss on packed clips."""

import torch
from torch import Tensor

from scaling.core.specs import OptimSpec
from scaling.diffusion.flow import SMALLEST_TIME, mix, to_velocity
from scaling.diffusion.latents import Packed
from scaling.models.dit import DiT
from scaling.training.batches import FlowBatch
from scaling.training.module import Rates, StepModule

BETAS = (0.9, 0.95)


class DiTModule(StepModule):
    """Rectified-flow training."""

    def __init__(self, model: DiT, optim: OptimSpec, steps: int) -> None:
        super().__init__(
            model,
            rates=Rates(
                muon=optim.muon_lr,
                adamw=optim.adamw_lr,
                wide=optim.base_width / model.spec.width,
                betas=BETAS,
                weight_decay=optim.weight_decay,
            ),
            matrices=model.matrices() if optim.optimiser == "muon" else {},
            wide=model.output_matrices() + ([] if optim.optimiser == "muon" else list(model.matrices())),
            steps=steps,
            warmup_steps=optim.warmup * steps if optim.warmup_steps is None else optim.warmup_steps,
            decay_steps=optim.decay * steps,
            clip=optim.clip,
            ema_widths=optim.ema_widths,
        )
        self.dit = model

    def loss(self, batch: FlowBatch, step: int) -> Tensor:
        """Mean squared error of the velocity over the predicted tokens of the whole update, this batch's part of it."""
        losses = flow_losses(self.dit, batch.packed, batch.t_flow, batch.noise, batch.dropped, batch.given)
        predicted = ~batch.given.to(losses.device)
        return (losses * predicted).sum() / predicted.sum() * batch.share


def flow_losses(
    model: DiT,
    batch: Packed,
    t_flow: Tensor,
    noise: Tensor,
    dropped: Tensor | None = None,
    given: Tensor | None = None,
) -> Tensor:
    """Squared error of the velocity per token, (tokens,), of which those of given frames mean nothing.

    t_flow and dropped: (clips,); noise: like the patches; given: (tokens,).
    """
    device = next(model.parameters()).device
    patches, noise, caption = batch.patches.to(device), noise.to(device), batch.caption.to(device)
    if dropped is not None:
        caption = caption.dropped(dropped.to(device))
    lengths = torch.tensor([t * h * w for t, h, w in batch.grids])
    t_token = t_flow.repeat_interleave(lengths).to(device)[:, None]
    noisy = mix(patches, noise, t_token)
    if given is not None:
        given = given.to(device)
        noisy = torch.where(given[:, None], patches, noisy)
    output = model(noisy, batch.grids, t_flow.to(device), caption.states, caption.mask, caption.pooled, given)
    velocity = to_velocity(output, noisy, t_token, model.spec.prediction, SMALLEST_TIME)
    return (velocity - (noise - patches)).square().mean(dim=1)
