"""Tells videos from reconstructions, patch by patch, for the adversarial loss of the VAE. How it is trained is in
`scaling.training.adversary`.

The 70x70 discriminator of pix2pix (Isola et al., arXiv 1611.07004), a level less deep and inflated to three dimensions.
Not causal: it judges whole clips and makes none. Group normalization in place of batch normalization, so that a clip is
judged by itself and the parameters are all there is to save.
"""

from itertools import pairwise

import torch
from torch import Tensor, nn

CHANNELS = (3, 64, 128, 256)
"""Of the pixels, and of each level."""
GROUPS = 16


class Discriminator(nn.Module):
    """2.0M parameters. A logit sees 17 frames of 38x38 pixels, and through the normalization a little of all."""

    def __init__(self) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for level, (before, after) in enumerate(pairwise(CHANNELS)):
            stride = (2, 2, 2) if level else (1, 2, 2)
            layers.append(nn.Conv3d(before, after, (3, 4, 4), stride, padding=1))
            if level:
                layers.append(nn.GroupNorm(GROUPS, after))
            layers.append(nn.LeakyReLU(0.2))
        self.layers = nn.Sequential(*layers, nn.Conv3d(CHANNELS[-1], 1, 3, padding=1))

    def forward(self, pixels: Tensor) -> Tensor:
        """(b, t, h, w, 3) in about [-1, 1], sides of at least 8 -> logits (b, about t / 4, h / 8, w / 8), high for
        real; in fp32 even under autocast."""
        # On a CPU with torch 2.13, where a kernel is larger than its input, the gradient of bfloat16 weights of
        # conv3d holds memory that nobody wrote: another one each time, NaN at times.
        with torch.autocast(pixels.device.type, enabled=False):
            logits: Tensor = self.layers(pixels.float().movedim(-1, 1))
        return logits[:, 0]
