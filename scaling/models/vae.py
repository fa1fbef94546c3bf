"""A causal video VAE, as a plain nn.Module: videos in, latents out and back. Training is in `scaling.training.vae`.

Legend: b clips, t frames, h height, w width, c channels; channels come last throughout. 1 + T frames become 1 + T/4
latent frames, and no latent sees a later frame, so an image is a one-frame video. The blocks are those of
`scaling.models.vae_factorised` or `scaling.models.vae_full`; what makes them causal, and lets a long clip pass in
chunks, is in `scaling.models.causal`.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from scaling.accounting.geometry import PIXEL_CHANNELS
from scaling.core.specs import VAESpec
from scaling.models import vae_factorised, vae_full
from scaling.models.causal import FeatureCache, run
from scaling.models.kernels.depth import depth_to_space, space_to_depth


def to_float(pixels: Tensor) -> Tensor:
    """uint8 0..255 -> float32 -1..1."""
    return pixels.float() / 127.5 - 1


def to_uint8(pixels: Tensor) -> Tensor:
    """Float about -1..1 -> uint8 0..255."""
    return ((pixels.clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8)


class VAE(nn.Module):
    """The two halves. Pixels are (b, t, h, w, 3) in [-1, 1]; latents are (b, 1 + (t-1)/4, h/s, w/s, c).

    Both halves take a whole clip, or, with a `FeatureCache` of its own, one chunk of it after another: of 1 + 4k frames
    and then of 4k, or of any numbers of latents. The chunks of the result, joined, are the result for the whole.
    """

    def __init__(self, spec: VAESpec) -> None:
        super().__init__()
        self.spec = spec
        kind = vae_factorised if spec.convolution == "factorised" else vae_full
        patch_dim = PIXEL_CHANNELS * spec.patch**2
        self.patch_in, self.encoder, self.to_posterior = kind.encoder(spec, patch_dim)
        self.from_latent, self.decoder, self.patch_out = kind.decoder(spec, patch_dim)

    def encode(self, pixels: Tensor, cache: FeatureCache | None = None) -> tuple[Tensor, Tensor]:
        """Pixels -> mean and log-variance of the posterior, each (b, latent t, latent h, latent w, c).

        Raises ValueError if a size does not divide: frames must be 1 + 4k, or 4k in a chunk that is not the first;
        height and width multiples of the stride.
        """
        _, t, h, w, _ = pixels.shape
        stride, first = self.spec.spatial_stride, cache is None or not cache.is_registered(self.encoder)
        if (t - first) % self.spec.temporal_stride or h % stride or w % stride:
            chunk_name, frames = ("clip", "1 + 4k") if first else ("further chunk", "4k")
            raise ValueError(
                f"{chunk_name} of {t} frames, {h}x{w}: needs {frames} frames and sides divisible by {stride}"
            )
        if cache is not None:
            cache.register(self.encoder)
        x = run(self.patch_in, space_to_depth(pixels, self.spec.patch), cache)
        posterior = run(self.to_posterior, F.silu(self.encoder(x, cache)), cache)
        mean, log_variance = posterior.float().chunk(2, dim=-1)
        return mean, log_variance.clamp(-20.0, 10.0)

    def decode(self, latents: Tensor, cache: FeatureCache | None = None) -> Tensor:
        """Latents -> pixels in about [-1, 1], (b, 1 + 4 (t-1), h, w, 3), or 4t frames from a chunk after the first."""
        x = self.decoder(run(self.from_latent, latents, cache), cache)
        return depth_to_space(run(self.patch_out, F.silu(x), cache), self.spec.patch).float()
