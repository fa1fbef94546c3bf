"""The DiT's LightningModule, which joins the model, its optimizer settings and the flow-matching loss on packed clips.

The model is in `scaling.models.dit`, the update in `scaling.training.module`.
"""

import torch
from torch import Tensor

from scaling.core.specs import OptimSpec
from scaling.diffusion.flow import SMALLEST_TIME, mix, to_velocity
from scaling.diffusion.latents import Packed
from scaling.models.dit import DiT
from scaling.training.batches import FlowBatch
from scaling.training.module import OptimizerSettings, StepModule

BETAS = (0.9, 0.95)
"""AdamW's betas."""


class DiTModule(StepModule):
    """Trains a DiT with the rectified-flow loss."""

    def __init__(self, model: DiT, optim: OptimSpec, steps: int) -> None:
        super().__init__(
            model,
            settings=OptimizerSettings(
                muon_lr=optim.muon_lr,
                adamw_lr=optim.adamw_lr,
                output_lr_factor=1.0 if optim.base_width is None else optim.base_width / model.spec.width,
                betas=BETAS,
                weight_decay=optim.weight_decay,
            ),
            muon_matrices=model.matrices() if optim.optimizer == "muon" else {},
            output_matrices=model.output_matrices() + ([] if optim.optimizer == "muon" else list(model.matrices())),
            steps=steps,
            warmup_steps=optim.warmup_fraction * steps if optim.warmup_steps is None else optim.warmup_steps,
            decay_steps=optim.decay_fraction * steps,
            max_grad_norm=optim.max_grad_norm,
            ema_widths=optim.ema_widths,
        )
        self.dit = model

    def loss(self, batch: FlowBatch, step: int) -> Tensor:
        """This batch's part of the update's loss: the mean squared error of the velocity over the predicted tokens of
        the whole update."""
        losses = flow_losses(self.dit, batch.packed, batch.t_flow, batch.noise, batch.dropped, batch.conditioning)
        predicted = ~batch.conditioning.to(losses.device)
        return (losses * predicted).sum() / predicted.sum() * batch.share


def flow_losses(
    model: DiT,
    batch: Packed,
    t_flow: Tensor,
    noise: Tensor,
    dropped: Tensor | None = None,
    conditioning: Tensor | None = None,
) -> Tensor:
    """The squared error of the velocity of each token, (tokens,). The values of tokens of conditioning frames have no
    meaning.

    t_flow: (clips,); noise: in the shape of the patches; dropped: (clips,) True where the caption is dropped;
    conditioning: (tokens,) True for tokens of conditioning frames.
    """
    device = next(model.parameters()).device
    patches, noise, caption = batch.patches.to(device), noise.to(device), batch.caption.to(device)
    if dropped is not None:
        caption = caption.dropped(dropped.to(device))
    lengths = torch.tensor([t * h * w for t, h, w in batch.grids])
    t_token = t_flow.repeat_interleave(lengths).to(device)[:, None]
    noisy = mix(patches, noise, t_token)
    if conditioning is not None:
        conditioning = conditioning.to(device)
        noisy = torch.where(conditioning[:, None], patches, noisy)
    output = model(noisy, batch.grids, t_flow.to(device), caption.states, caption.mask, caption.pooled, conditioning)
    velocity = to_velocity(output, noisy, t_token, model.spec.prediction, SMALLEST_TIME)
    return (velocity - (noise - patches)).square().mean(dim=1)
