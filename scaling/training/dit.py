"""The DiT's LightningModule: a thin joint between the model, the flow's loss and the cached latents."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from scaling import flops
from scaling.errors import UserError
from scaling.flow import Stream, mix, seeded, stratified_times, to_velocity
from scaling.geometry import Grid
from scaling.latents import LatentSet, Packed
from scaling.models.dit import DiT
from scaling.specs import OptimSpec
from scaling.training.module import StepModule

BETAS = (0.9, 0.95)


class DiTModule(StepModule):
    """Rectified-flow training on packed clips."""

    def __init__(self, model: DiT, optim: OptimSpec, steps: int, seed: int) -> None:
        super().__init__(
            model,
            model.matrices(),
            steps=steps,
            rates=(optim.muon_lr, optim.adamw_lr),
            warmup=optim.warmup,
            decay=optim.decay,
            clip=optim.clip,
            ema_width=optim.ema_width,
            betas=BETAS,
            weight_decay=optim.weight_decay,
        )
        self.dit, self.optim, self.seed = model, optim, seed

    def loss(self, batch: Packed, step: int) -> Tensor:
        """Mean squared error of the velocity over all tokens of the batch."""
        generator = seeded(self.seed, Stream.NOISE, step)
        t_flow = stratified_times(len(batch.grids), generator)
        noise = torch.randn(batch.patches.shape, generator=generator).to(self.device)
        drop = torch.rand(len(batch.grids), generator=generator) < self.optim.caption_dropout
        return flow_losses(self.dit, batch, t_flow, noise, drop).mean()


def flow_losses(model: DiT, batch: Packed, t_flow: Tensor, noise: Tensor, drop: Tensor | None = None) -> Tensor:
    """Squared error of the velocity per token, (tokens,); t_flow: (clips,); noise: like the patches."""
    device = noise.device
    patches, caption = batch.patches.to(device), batch.caption.to(device)
    if drop is not None:
        caption = caption.dropped(drop.to(device))
    lengths = torch.tensor([t * h * w for t, h, w in batch.grids])
    t_token = t_flow.repeat_interleave(lengths).to(device)[:, None]
    noisy = mix(patches, noise, t_token)
    output = model(noisy, batch.grids, t_flow.to(device), caption.states, caption.mask, caption.pooled)
    velocity = to_velocity(output, noisy, t_token, model.spec.prediction)
    return (velocity - (noise - patches)).square().mean(dim=1)


@dataclass(frozen=True)
class Budget:
    """What a number of training FLOPs buys."""

    steps: int
    train_flops: float
    num_tokens: int


def steps_within(model: DiT, data: LatentSet, optim: OptimSpec, seed: int, flop_budget: float) -> Budget:
    """The number of updates that comes closest to a budget.

    Raises UserError where the budget does not pay for one update.
    """
    steps, spent, tokens = 0, 0.0, 0
    cost_of: dict[tuple[Grid, ...], float] = {}
    while True:
        grids = tuple(sorted(data.grids[clip] for clip in data.order(steps, optim.batch_clips, seed)))
        if grids not in cost_of:
            cost_of[grids] = flops.dit_training(model.spec, data.channels, grids, data.text_tokens)
        cost = cost_of[grids]
        if spent + cost / 2 > flop_budget:
            break
        steps, spent, tokens = steps + 1, spent + cost, tokens + sum(math.prod(grid) for grid in grids)
    if steps == 0:
        raise UserError(f"flop_budget: {flop_budget:.3g} FLOPs do not pay for one update of {cost:.3g}; raise it")
    return Budget(steps, spent, tokens)
