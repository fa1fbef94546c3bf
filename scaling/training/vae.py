"""The VAE's LightningModule: reconstruction of random crops, to the eye of two networks if asked for."""

from typing import Any

import torch
from torch import Tensor

from scaling.core.specs import VAETrainSpec
from scaling.core.streams import Stream
from scaling.diffusion.flow import seeded, seeded_noise
from scaling.metrics.lpips import LPIPS
from scaling.models.kernels.linear import linear_matrices
from scaling.models.vae import VAE, to_float
from scaling.training.adversary import Adversary, Pair
from scaling.training.checkpoints import Groups
from scaling.training.crops import CropBatch
from scaling.training.module import Rates, StepModule

BETAS = (0.9, 0.98)
WARMUP, DECAY, CLIP, EMA_WIDTH = 0.05, 0.5, 1.0, 0.05

FOREGROUND = 0.1
"""A pixel is foreground if a channel differs by more than this from the crop's median; black to white is 2."""


LPIPS_FRAMES = 4
"""Frames of a crop, at most, that the perceptual loss looks at: at 128x128, each costs 30 GFLOP, VGG16 forward on both
sides and back on one."""


class VAEModule(StepModule):
    """L1, heavier on the foreground; LPIPS; KL to the unit Gaussian; and, late in the training, an adversarial loss.

    L1 + lpips_weight * LPIPS + kl_weight * KL + gan_weight * GAN; a weight of 0 leaves its part out. LPIPS is of
    LPIPS_FRAMES of each crop at most, which each update draws anew. The weight of the adversarial part is constant, as
    in MAGVIT (arXiv 2212.05199), which takes 0.1; VQGAN (arXiv 2012.09841) sets it anew in each update from two
    gradients of the last layer. The discriminator is updated after the VAE, on the same crops, and is part of the
    checkpoint from the beginning.
    """

    def __init__(self, model: VAE, train: VAETrainSpec) -> None:
        """Raises UserError where the perceptual loss needs weights that cannot be fetched."""
        super().__init__(
            model,
            rates=Rates(muon=train.muon_lr, adamw=train.adamw_lr, betas=BETAS),
            # convolutions and the layers that touch pixels or latents are AdamW's
            matrices=linear_matrices(model.encoder, model.decoder),
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
        self.pairs: list[Pair] = []
        """What the discriminator will see of the update at work."""
        # what DDP leaves alone: the weights that are never trained, and those that `Adversary` sums over ranks itself
        others = [f"lpips.{name}" for name, _ in self.lpips.named_buffers()] if self.lpips is not None else []
        others += [f"adversary.{name}" for name, _ in self.adversary.named_parameters()] if self.adversary else []
        self._ddp_params_and_buffers_to_ignore = others

    def loss(self, batch: CropBatch, step: int) -> Tensor:
        """This batch's part of the mean over the crops of the update. The KL is in nats per latent position, summed
        over channels."""
        train = self.train_spec
        pixels = to_float(batch.pixels.to(self.device))
        mean, log_variance = self.vae.encode(pixels)
        noises = [seeded_noise(mean.shape[1:], train.seed, Stream.POSTERIOR, step, place) for place in batch.places]
        noise = torch.stack(noises).to(mean.device)
        restored = self.vae.decode(mean + noise * torch.exp(0.5 * log_variance))
        weight = 1 + train.foreground_weight * foreground(pixels)
        kl = 0.5 * (mean.square() + log_variance.exp() - 1 - log_variance).sum(-1).mean()
        loss = ((restored - pixels).abs() * weight).mean() + train.kl_weight * kl
        if self.lpips is not None:
            frames = torch.stack([some_frames(pixels.shape[1], train.seed, step, place) for place in batch.places])
            rows = torch.arange(len(frames))[:, None]
            perceptual = self.lpips(restored[rows, frames], pixels[rows, frames])
            loss = loss + train.lpips_weight * perceptual.mean()
        if self.adversary is not None and step >= train.gan_from * train.steps:
            loss = loss + train.gan_weight * self.adversary.generator_loss(restored)
            self.pairs.append(Pair(pixels, restored.detach(), batch.share))
        return loss * batch.share

    def training_step(self, batch: list[CropBatch], batch_idx: int) -> Tensor:
        """One update of the VAE, then one of the discriminator if it plays. Raises what the VAE's does."""
        loss = super().training_step(batch, batch_idx)
        if self.adversary is not None and self.pairs:
            self.adversary.loss(self.pairs).backward()  # `manual_backward` would have DDP wait for the VAE's gradients
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


def some_frames(frames: int, seed: int, step: int, place: int) -> Tensor:
    """Numbers of LPIPS_FRAMES different frames of a crop, or of all if it has not so many, at random."""
    return torch.randperm(frames, generator=seeded(seed, Stream.PERCEPTION, step, place))[:LPIPS_FRAMES]


def foreground(pixels: Tensor) -> Tensor:
    """Where a clip differs from its median colour: (b, t, h, w, 3) -> (b, t, h, w, 1) of 0 and 1. Small objects on a
    plain ground would otherwise weigh little; on real footage nearly everything is foreground and the weight is a
    constant."""
    median = pixels.flatten(1, 3).median(dim=1).values[:, None, None, None]
    return ((pixels - median).abs().amax(-1, keepdim=True) > FOREGROUND).float()
