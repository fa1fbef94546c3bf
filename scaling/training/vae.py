"""The VAE's LightningModule: reconstruction of random crops, to the eye of two networks if asked for."""

from typing import Any

import numpy as np
import torch
from torch import Tensor

from scaling.flow import seeded, seeded_noise
from scaling.metrics.lpips import LPIPS
from scaling.models.vae import VAE, to_float
from scaling.specs import VAETrainSpec
from scaling.streams import Stream
from scaling.training.adversary import Adversary
from scaling.training.checkpoints import Groups
from scaling.training.module import Rates, StepModule

BETAS = (0.9, 0.98)
WARMUP, DECAY, CLIP, EMA_WIDTH = 0.05, 0.5, 1.0, 0.05

FOREGROUND = 0.1
"""A pixel is foreground if a channel differs by more than this from the crop's median; black to white is 2."""


LPIPS_FRAMES = 32
"""Frames of an update, at most, that the perceptual loss looks at: at 128x128, each costs 30 GFLOP, VGG16 forward on
both sides and back on one."""


class VAEModule(StepModule):
    """L1, heavier on the foreground; LPIPS; KL to the unit Gaussian; and, late in the training, an adversarial loss.

    L1 + lpips_weight * LPIPS + kl_weight * KL + gan_weight * GAN; a weight of 0 leaves its part out. LPIPS is of
    LPIPS_FRAMES frames at most, which each update draws anew. The weight of the adversarial part is constant, as in
    MAGVIT (arXiv 2212.05199), which takes 0.1; VQGAN (arXiv 2012.09841) sets it anew in each update from two gradients
    of the last layer. The discriminator is updated after the VAE, on the same crops, and is part of the checkpoint from
    the beginning.
    """

    def __init__(self, model: VAE, train: VAETrainSpec) -> None:
        """Raises UserError where the perceptual loss needs weights that cannot be fetched."""
        super().__init__(
            model,
            rates=Rates(muon=train.muon_lr, adamw=train.adamw_lr, betas=BETAS),
            matrices=matrices(model),
            wide=[],
            steps=train.steps,
            warmup_steps=WARMUP * train.steps,
            decay_steps=DECAY * train.steps,
            clip=CLIP,
            ema_widths=(EMA_WIDTH,),
        )
        self.vae, self.train_spec = model, train
        self.lpips = LPIPS("vgg") if train.lpips_weight else None
        self.adversary = Adversary() if train.gan_weight else None
        self.pairs: list[tuple[Tensor, Tensor]] = []
        """What the discriminator will see of the update at work."""

    def loss(self, batch: Tensor, step: int) -> Tensor:
        """batch: uint8 (b, t, h, w, 3). The KL is in nats per latent position, summed over channels."""
        train = self.train_spec
        pixels = to_float(batch.to(self.device))
        mean, log_variance = self.vae.encode(pixels)
        noise = seeded_noise(mean.shape, train.seed, Stream.POSTERIOR, step).to(mean.device)
        restored = self.vae.decode(mean + noise * torch.exp(0.5 * log_variance))
        weight = 1 + train.foreground_weight * foreground(pixels)
        kl = 0.5 * (mean.square() + log_variance.exp() - 1 - log_variance).sum(-1).mean()
        loss = ((restored - pixels).abs() * weight).mean() + train.kl_weight * kl
        if self.lpips is not None:
            frames = some_frames(pixels, LPIPS_FRAMES, train.seed, step)
            perceptual = self.lpips(restored.flatten(0, 1)[frames], pixels.flatten(0, 1)[frames])
            loss = loss + train.lpips_weight * perceptual.mean()
        if self.adversary is not None and step >= train.gan_from * train.steps:
            loss = loss + train.gan_weight * self.adversary.generator_loss(restored)
            self.pairs.append((pixels, restored.detach()))
        return loss

    def training_step(self, batch: list[Tensor], batch_idx: int) -> Tensor:
        """One update of the VAE, then one of the discriminator if it plays. Raises what the VAE's does."""
        loss = super().training_step(batch, batch_idx)
        if self.adversary is not None and self.pairs:
            self.manual_backward(self.adversary.loss(self.pairs))
            self.adversary.step()
            self.pairs.clear()
        return loss

    def configure_optimizers(self) -> Any:
        return super().configure_optimizers() + ([self.adversary.optimiser] if self.adversary is not None else [])

    def state(self) -> Groups:
        return super().state() | (self.adversary.state() if self.adversary is not None else {})

    def restore(self, step: int, groups: Groups) -> None:
        super().restore(step, groups)
        if self.adversary is not None:
            self.adversary.restore(groups)


def some_frames(clips: Tensor, count: int, seed: int, step: int) -> Tensor:
    """Numbers of `count` different frames of clips (b, t, ...), or of all if there are not so many, at random."""
    total = clips.shape[0] * clips.shape[1]
    return torch.randperm(total, generator=seeded(seed, Stream.PERCEPTION, step))[:count]


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
    """Random crops in space and time of clips of any size, (seed, step) -> one micro-batch of (b, t, h, w, 3) uint8.

    Clips smaller than the crop give what they have: all crops of a batch take the smallest such size.
    """

    def __init__(self, clips: list[np.ndarray], train: VAETrainSpec, multiple: int) -> None:
        self.clips, self.train, self.multiple = clips, train, multiple

    def __call__(self, step: int) -> list[Tensor]:
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
        return [torch.from_numpy(np.stack(crops))]
