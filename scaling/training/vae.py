"""The VAE's LightningModule: reconstruction of random crops."""

import numpy as np
import torch
from torch import Tensor

from scaling.flow import Stream, seeded_noise
from scaling.models.vae import VAE, to_float
from scaling.specs import VAETrainSpec
from scaling.training.module import StepModule

BETAS = (0.9, 0.98)
WARMUP, DECAY, CLIP, EMA_WIDTH = 0.05, 0.5, 1.0, 0.05

FOREGROUND = 0.1
"""A pixel is foreground if a channel differs by more than this from the crop's median; black to white is 2."""


class VAEModule(StepModule):
    """L1, heavier on the foreground, and KL to the unit Gaussian."""

    def __init__(self, model: VAE, train: VAETrainSpec) -> None:
        super().__init__(
            model,
            matrices(model),
            steps=train.steps,
            rates=(train.muon_lr, train.adamw_lr),
            warmup=WARMUP,
            decay=DECAY,
            clip=CLIP,
            ema_width=EMA_WIDTH,
            betas=BETAS,
        )
        self.vae, self.train_spec = model, train

    def loss(self, batch: Tensor, step: int) -> Tensor:
        """batch: uint8 (b, t, h, w, 3). The KL is in nats per latent position, summed over channels."""
        pixels = to_float(batch.to(self.device))
        mean, log_variance = self.vae.encode(pixels)
        noise = seeded_noise(mean.shape, self.train_spec.seed, Stream.POSTERIOR, step).to(mean.device)
        restored = self.vae.decode(mean + noise * torch.exp(0.5 * log_variance))
        weight = 1 + self.train_spec.foreground_weight * foreground(pixels)
        kl = 0.5 * (mean.square() + log_variance.exp() - 1 - log_variance).sum(-1).mean()
        return ((restored - pixels).abs() * weight).mean() + self.train_spec.kl_weight * kl


def matrices(model: VAE) -> list[torch.nn.Parameter]:
    """The inner matrices, for Muon; convolutions and the layers that touch pixels or latents are AdamW's."""
    inner = [*model.encoder.parameters(), *model.decoder.parameters()]
    return [parameter for parameter in inner if parameter.ndim == 2]


def foreground(pixels: Tensor) -> Tensor:
    """Where a clip differs from its median colour: (b, t, h, w, 3) -> (b, t, h, w, 1) of 0 and 1. Small objects on a
    plain ground would otherwise weigh little; on real footage nearly everything is foreground and the weight is a
    constant."""
    median = pixels.flatten(1, 3).median(dim=1).values[:, None, None, None]
    return ((pixels - median).abs().amax(-1, keepdim=True) > FOREGROUND).float()


class Crops:
    """Random crops in space and time of clips of any size, (seed, step) -> (b, t, h, w, 3) uint8.

    Clips smaller than the crop give what they have: all crops of a batch take the smallest such size.
    """

    def __init__(self, clips: list[np.ndarray], train: VAETrainSpec, multiple: int) -> None:
        self.clips, self.train, self.multiple = clips, train, multiple

    def __call__(self, step: int) -> Tensor:
        rng = np.random.default_rng([self.train.seed, Stream.CROP, step])
        chosen = [self.clips[i] for i in rng.integers(len(self.clips), size=self.train.batch_clips)]
        frames = min(self.train.crop_frames, *(len(clip) for clip in chosen))
        side = min(self.train.crop, *(min(clip.shape[1:3]) for clip in chosen)) // self.multiple * self.multiple
        crops = []
        for clip in chosen:
            t, y, x = (
                rng.integers(size - crop + 1) for size, crop in zip(clip.shape, (frames, side, side), strict=False)
            )
            crops.append(clip[t : t + frames, y : y + side, x : x + side])
        return torch.from_numpy(np.stack(crops))
