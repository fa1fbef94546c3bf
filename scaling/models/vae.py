"""A causal video VAE, as a plain nn.Module: videos in, latents out and back. Training is in `scaling.training.vae`.

Legend: b clips, t frames, h height, w width, c channels; channels come last throughout. 1 + T frames become 1 + T/4
latent frames, and no latent sees a later frame, so an image is a one-frame video. Convolutions are factorised into a
3x3 spatial and a causal 3-tap temporal part; the temporal part is one matrix product over shifted frames, which a CPU
and a GPU both run at the speed of a dense layer. Every normalisation is over the channels of one position: statistics
that crossed time would break causality (Wan 2.1's VAE gives up GroupNorm for the same reason).
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from scaling.specs import VAESpec, VAEStage

PIXEL_CHANNELS = 3


def to_float(pixels: Tensor) -> Tensor:
    """uint8 0..255 -> float32 -1..1."""
    return pixels.float() / 127.5 - 1


def to_uint8(pixels: Tensor) -> Tensor:
    """Float about -1..1 -> uint8 0..255."""
    return ((pixels.clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8)


def space_to_depth(x: Tensor, factor: int) -> Tensor:
    """(b, t, h, w, c) -> (b, t, h/factor, w/factor, factor*factor*c)."""
    b, t, h, w, c = x.shape
    x = x.reshape(b, t, h // factor, factor, w // factor, factor, c)
    return x.permute(0, 1, 2, 4, 3, 5, 6).reshape(b, t, h // factor, w // factor, factor * factor * c)


def depth_to_space(x: Tensor, factor: int) -> Tensor:
    """(b, t, h, w, factor*factor*c) -> (b, t, h*factor, w*factor, c); undoes `space_to_depth`."""
    b, t, h, w, c = x.shape
    x = x.reshape(b, t, h, w, factor, factor, c // factor**2)
    return x.permute(0, 1, 2, 4, 3, 5, 6).reshape(b, t, h * factor, w * factor, c // factor**2)


def position_norm(width: int) -> nn.Module:
    """Normalisation over the channels of one position. LayerNorm without bias, because torch's CPU RMSNorm is not
    fused: 2.6 times slower forward and backward on (32, 80, 96) with torch 2.13."""
    return nn.LayerNorm(width, bias=False)


class SpatialConv(nn.Module):
    """3x3 convolution of every frame by itself: (b, t, h, w, c) -> (b, t, h, w, c)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(width, width, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        b, t, h, w, c = x.shape
        # A channels-last image batch is the same memory as (b*t, h, w, c), so neither permute copies.
        y = self.conv(x.reshape(b * t, h, w, c).permute(0, 3, 1, 2))
        return y.permute(0, 2, 3, 1).reshape(b, t, h, w, -1)


class TemporalConv(nn.Module):
    """Causal 3-tap convolution over time, stride 1 or 2; the past before the first frame repeats that frame.

    (b, t, h, w, c) -> (b, t, h, w, c), or (b, 1 + (t-1)/2, h, w, c) at stride 2: output i sees frames 2i-2, 2i-1, 2i.
    """

    def __init__(self, width: int, stride: int = 1) -> None:
        super().__init__()
        self.stride = stride
        self.taps = nn.Linear(3 * width, width)

    def forward(self, x: Tensor) -> Tensor:
        past = torch.cat([x[:, :1], x[:, :1], x], dim=1)
        last = x.shape[1]
        frames = [past[:, tap : tap + last : self.stride] for tap in range(3)]
        return self.taps(torch.cat(frames, dim=-1))


class ResidualBlock(nn.Module):
    """x + temporal(spatial(x)), each after a normalisation and SiLU. (b, t, h, w, c) -> the same."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm_space = position_norm(width)
        self.space = SpatialConv(width)
        self.norm_time = position_norm(width)
        self.time = TemporalConv(width)

    def forward(self, x: Tensor) -> Tensor:
        y = self.space(F.silu(self.norm_space(x)))
        return x + self.time(F.silu(self.norm_time(y)))


class Down(nn.Module):
    """Halves space (2x2 pixels to channels), time (causal stride 2), or both; then changes the width."""

    def __init__(self, stage: VAEStage, width: int) -> None:
        super().__init__()
        self.halves_space = stage.down in ("space", "both")
        self.time = TemporalConv(width, stride=2) if stage.down in ("time", "both") else nn.Identity()
        self.project = nn.Linear(stage.width * (4 if self.halves_space else 1), width)

    def forward(self, x: Tensor) -> Tensor:
        return self.time(self.project(space_to_depth(x, 2) if self.halves_space else x))


class Up(nn.Module):
    """Undoes `Down`'s sizes: latent frame i gives frames 2i-1 and 2i, and the first gives only itself."""

    def __init__(self, stage: VAEStage, width: int) -> None:
        super().__init__()
        self.doubles_space = stage.down in ("space", "both")
        self.doubles_time = stage.down in ("time", "both")
        self.unfold_time = nn.Linear(width, 2 * width) if self.doubles_time else nn.Identity()
        self.project = nn.Linear(width, stage.width * (4 if self.doubles_space else 1))

    def forward(self, x: Tensor) -> Tensor:
        if self.doubles_time:
            b, t, h, w, c = x.shape
            x = self.unfold_time(x).reshape(b, t, h, w, 2, c).permute(0, 1, 4, 2, 3, 5)
            x = x.reshape(b, 2 * t, h, w, c)[:, 1:]
        x = self.project(x)
        return depth_to_space(x, 2) if self.doubles_space else x


class VAE(nn.Module):
    """The two halves. Pixels are (b, t, h, w, 3) in [-1, 1]; latents are (b, 1 + (t-1)/4, h/s, w/s, c)."""

    def __init__(self, spec: VAESpec) -> None:
        super().__init__()
        self.spec = spec
        stages, after = spec.stages, spec.widths_after
        patch_dim = PIXEL_CHANNELS * spec.patch**2

        self.patch_in = nn.Linear(patch_dim, stages[0].width)
        self.encoder = nn.Sequential()
        for stage, width in zip(stages, after, strict=True):
            self.encoder.extend(ResidualBlock(stage.width) for _ in range(spec.blocks))
            if stage.down != "none":
                self.encoder.append(Down(stage, width))
        self.encoder.append(position_norm(after[-1]))
        self.to_posterior = nn.Linear(after[-1], 2 * spec.latent_channels)

        self.from_latent = nn.Linear(spec.latent_channels, after[-1])
        self.decoder = nn.Sequential()
        for stage, width in zip(reversed(stages), reversed(after), strict=True):
            if stage.down != "none":
                self.decoder.append(Up(stage, width))
            self.decoder.extend(ResidualBlock(stage.width) for _ in range(spec.blocks))
        self.decoder.append(position_norm(stages[0].width))
        self.patch_out = nn.Linear(stages[0].width, patch_dim)

    def encode(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        """Pixels -> mean and log-variance of the posterior, each (b, latent t, latent h, latent w, c).

        Raises ValueError if a size does not divide: frames must be 1 + 4k, height and width multiples of the stride.
        """
        _, t, h, w, _ = pixels.shape
        stride = self.spec.spatial_stride
        if (t - 1) % self.spec.temporal_stride or h % stride or w % stride:
            raise ValueError(f"clip of {t} frames, {h}x{w}: needs 1 + 4k frames and sides divisible by {stride}")
        x = self.encoder(self.patch_in(space_to_depth(pixels, self.spec.patch)))
        mean, log_variance = self.to_posterior(F.silu(x)).float().chunk(2, dim=-1)
        return mean, log_variance.clamp(-20.0, 10.0)

    def decode(self, latents: Tensor) -> Tensor:
        """Latents -> pixels in about [-1, 1], (b, 1 + 4 (t-1), h, w, 3)."""
        x = self.decoder(self.from_latent(latents))
        return depth_to_space(self.patch_out(F.silu(x)), self.spec.patch).float()
