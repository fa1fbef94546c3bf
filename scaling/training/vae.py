"""The VAE's LightningModule, which joins the model and its losses on random crops: reconstruction, KL, and, if the spec
asks for them, a perceptual and an adversarial loss.

The model is in `scaling.models.vae`, the discriminator's training in `scaling.training.adversary`.
"""

import torch
from torch import Tensor

from scaling.core.specs import VAETrainSpec
from scaling.core.streams import Stream
from scaling.diffusion.flow import seeded, seeded_noise
from scaling.metrics.lpips import LPIPS
from scaling.models.kernels.linear import linear_matrices
from scaling.models.vae import VAE, to_float
from scaling.training.adversary import Adversary, RestoredClips
from scaling.training.checkpoints import Groups
from scaling.training.crops import CropBatch
from scaling.training.module import OptimizerSettings, StepModule

BETAS = (0.9, 0.98)
"""AdamW's betas."""
WARMUP_FRACTION, DECAY_FRACTION = 0.05, 0.5
"""The fractions of the updates in which the learning rate rises and falls."""
MAX_GRAD_NORM = 1.0
"""Norm to which the gradients are clipped."""
EMA_WIDTH = 0.05
"""Relative width of the average of the weights."""

FOREGROUND = 0.1
"""A pixel is foreground if one of its channels differs by more than this from the crop's median. Black and white differ
by 2."""

LPIPS_FRAMES = 4
"""Largest number of frames of a crop that the perceptual loss takes. At 128x128, each costs 30 GFLOP: VGG16 forward for
both pictures and backward for one."""


class VAEModule(StepModule):
    """Trains a VAE with the loss

        L1 + lpips_weight * LPIPS + kl_weight * KL + gan_weight * GAN.

    L1 gives the foreground a larger weight, KL is the divergence from the unit Gaussian, and GAN begins late in the
    training. A weight of 0 removes its term. LPIPS takes at most LPIPS_FRAMES frames of each crop, which each update
    draws anew. The weight of GAN is constant, as in MAGVIT (arXiv 2212.05199), which uses 0.1; VQGAN (arXiv 2012.09841)
    computes it in each update from two gradients of the last layer. The discriminator is updated after the VAE, on the
    same crops, and is part of the checkpoint from the beginning.
    """

    def __init__(self, model: VAE, train: VAETrainSpec) -> None:
        """Raises UserError if the perceptual loss needs weights that cannot be downloaded."""
        super().__init__(
            model,
            settings=OptimizerSettings(muon_lr=train.muon_lr, adamw_lr=train.adamw_lr, betas=BETAS),
            # AdamW trains the convolutions and the layers whose inputs or outputs are pixels or latents
            muon_matrices=linear_matrices(model.encoder, model.decoder),
            output_matrices=[],
            steps=train.steps,
            warmup_steps=WARMUP_FRACTION * train.steps,
            decay_steps=DECAY_FRACTION * train.steps,
            max_grad_norm=MAX_GRAD_NORM,
            ema_widths=(EMA_WIDTH,),
        )
        self.vae, self.train_spec = model, train
        self.lpips = LPIPS("vgg") if train.lpips_weight else None
        self.adversary = Adversary() if train.gan_weight else None
        self.pairs: list[RestoredClips] = []
        """The clips and reconstructions of the current update, on which the discriminator will be trained."""
        # DDP must ignore the weights that are never trained, and those whose gradients `Adversary` sums over ranks.
        ignored = [f"lpips.{name}" for name, _ in self.lpips.named_buffers()] if self.lpips is not None else []
        ignored += [f"adversary.{name}" for name, _ in self.adversary.named_parameters()] if self.adversary else []
        self._ddp_params_and_buffers_to_ignore = ignored

    def loss(self, batch: CropBatch, step: int) -> Tensor:
        """This batch's part of the update's loss, which is the mean over its crops. The KL is in nats per latent
        position, summed over channels."""
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
            self.pairs.append(RestoredClips(pixels, restored.detach(), batch.share))
        return loss * batch.share

    def training_step(self, batch: list[CropBatch], batch_idx: int) -> Tensor:
        """Updates the VAE, and then the discriminator if it has begun. Raises DivergedError if the loss of the VAE is
        not finite."""
        loss = super().training_step(batch, batch_idx)
        if self.adversary is not None and self.pairs:
            # not `manual_backward`, with which DDP would wait for gradients of the VAE
            torch.autograd.backward(self.adversary.loss(self.pairs))
            self.adversary.step()
            self.pairs.clear()
        return loss

    def configure_optimizers(self) -> list[torch.optim.Optimizer]:
        return super().configure_optimizers() + ([self.adversary.optimizer] if self.adversary is not None else [])

    def state(self) -> Groups:
        return super().state() | (self.adversary.state() if self.adversary is not None else {})

    def restore(self, step: int, groups: Groups) -> None:
        super().restore(step, groups)
        if self.adversary is not None:
            self.adversary.restore(groups)


def some_frames(frames: int, seed: int, step: int, place: int) -> Tensor:
    """The numbers of LPIPS_FRAMES random frames of a crop, without repetition, or of all frames if it has fewer."""
    return torch.randperm(frames, generator=seeded(seed, Stream.PERCEPTION, step, place))[:LPIPS_FRAMES]


def foreground(pixels: Tensor) -> Tensor:
    """1 where a clip differs from its median color, and 0 elsewhere: (b, t, h, w, 3) to (b, t, h, w, 1). Without it,
    small objects on a plain background would hardly count. In real videos nearly everything is foreground, so that the
    weight is constant."""
    median = pixels.flatten(1, 3).median(dim=1).values[:, None, None, None]
    return ((pixels - median).abs().amax(-1, keepdim=True) > FOREGROUND).float()
