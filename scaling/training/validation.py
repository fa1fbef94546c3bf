"""The validation loss. The clips, the times and the noise of each (clip, time) are fixed, so that the losses of two
models differ little by chance."""

import math

import torch

from scaling.core.records import Metric
from scaling.core.specs import EvalSpec
from scaling.core.streams import Stream
from scaling.diffusion.flow import seeded_noise
from scaling.diffusion.latents import LatentSet
from scaling.distributed.precision import autocast
from scaling.models.dit import DiT
from scaling.training.dit import flow_losses

BATCH_CLIPS = 32
"""Largest number of clips in a forward pass."""


@torch.no_grad()
def validation_loss(model: DiT, held_out: LatentSet, evaluation: EvalSpec) -> tuple[Metric, ...]:
    """`val_loss` is the mean squared error of the velocity over the clips and over the times (i + 0.5) / n. Every clip
    has the same weight, and the standard error is that of the mean over clips. `val_loss_t<t>` is the same for one of
    the times."""
    device = next(model.parameters()).device
    clips = list(range(min(evaluation.val_clips, len(held_out))))
    losses = torch.zeros(evaluation.val_times, len(clips), dtype=torch.float64)
    for level in range(evaluation.val_times):
        t = (level + 0.5) / evaluation.val_times
        for first in range(0, len(clips), BATCH_CLIPS):
            batch = held_out.pack(clips[first : first + BATCH_CLIPS])
            lengths = [math.prod(grid) for grid in batch.grids]
            noise = torch.cat(
                [
                    seeded_noise((length, batch.patches.shape[1]), evaluation.seed, Stream.VALIDATION, clip, level)
                    for clip, length in zip(batch.clips, lengths, strict=True)
                ]
            ).to(device)
            with autocast():
                per_token = flow_losses(model, batch, torch.full((len(lengths),), t), noise)
            per_clip = torch.stack([part.mean() for part in torch.split(per_token.double(), lengths)])
            losses[level, batch.clips] = per_clip.cpu()
    loss_of_clip = losses.mean(0)
    standard_error = loss_of_clip.std().item() / math.sqrt(len(clips)) if len(clips) > 1 else None
    settings = {"times": evaluation.val_times, "seed": evaluation.seed, "weights": "ema"}
    mean = loss_of_clip.mean().item()
    total = Metric(name="val_loss", value=mean, standard_error=standard_error, n=len(clips), settings=settings)
    levels = [
        Metric(name=f"val_loss_t{(level + 0.5) / evaluation.val_times:.3f}", value=loss.item(), n=len(clips))
        for level, loss in enumerate(losses.mean(1))
    ]
    return (total, *levels)
