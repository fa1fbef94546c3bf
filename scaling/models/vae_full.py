"""The blocks of a VAE with full causal 3x3x3 convolutions: the class of Wan 2.1's VAE (arXiv 2503.20314, section 4.1).

Residual blocks of two convolutions; after the last level a middle with attention inside each frame; one block more per
level in the decoder; and the decoder halves its channels where it doubles space, which is where activations are
largest. (b, t, h, w, c) throughout. Every normalization is over the channels of one position, so none crosses time.
"""

import torch.nn.functional as F
from torch import Tensor, nn

from scaling.core.specs import VAESpec, VAEStage
from scaling.models.causal import Causal, CausalConv, Chain, FeatureCache, TemporalConv, unfold_pairs
from scaling.models.kernels.linear import FusedLinear


class PositionNorm(nn.RMSNorm):
    """RMS normalization over the channels of one position. On a CPU it takes 21 ms forward and backward on
    (5, 64, 64, 96) where LayerNorm takes 6, beside a convolution of 240."""

    def __init__(self, width: int) -> None:
        super().__init__(width, eps=1e-6)

    def forward(self, x: Tensor) -> Tensor:
        # torch's fused kernel wants one dtype
        return F.rms_norm(x, self.normalized_shape, self.weight.to(x.dtype), self.eps)


class FullResidualBlock(Causal):
    """x + conv(conv(x)), each after a normalization and SiLU. (b, t, h, w, c) -> (b, t, h, w, width_out)."""

    def __init__(self, width: int, width_out: int) -> None:
        super().__init__()
        self.norm_1 = PositionNorm(width)
        self.conv_1 = CausalConv(width, width_out)
        self.norm_2 = PositionNorm(width_out)
        self.conv_2 = CausalConv(width_out, width_out)
        self.shortcut = nn.Linear(width, width_out) if width != width_out else nn.Identity()

    def forward(self, x: Tensor, cache: FeatureCache | None = None) -> Tensor:
        y = self.conv_1(F.silu(self.norm_1(x)), cache)
        result: Tensor = self.shortcut(x) + self.conv_2(F.silu(self.norm_2(y)), cache)
        return result


class FrameAttention(nn.Module):
    """x + attention, with one head, among the positions of each frame. (b, t, h, w, c) -> the same."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = PositionNorm(width)
        self.qkv = FusedLinear(width, width, 3)
        self.out = nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        b, t, h, w, c = x.shape
        q, k, v = self.qkv(self.norm(x)).reshape(b * t, 1, h * w, 3 * c).chunk(3, dim=-1)
        result: Tensor = x + self.out(F.scaled_dot_product_attention(q, k, v).reshape(b, t, h, w, c))
        return result


class ResamplingConv(nn.Module):
    """3x3 convolution of every frame by itself, at stride 2 on the way down and stride 1 on the way up."""

    def __init__(self, width: int, width_out: int, stride: int = 1) -> None:
        super().__init__()
        self.conv = nn.Conv2d(width, width_out, 3, stride=stride, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        y = self.conv(x.flatten(0, 1).permute(0, 3, 1, 2)).permute(0, 2, 3, 1)
        result: Tensor = y.unflatten(0, x.shape[:2])
        return result


class ConvDownsample(Causal):
    """Halves space (3x3 at stride 2), time (3 taps at stride 2), or both. The width stays."""

    def __init__(self, stage: VAEStage) -> None:
        super().__init__()
        self.space = ResamplingConv(stage.width, stage.width, stride=2) if stage.halves_space else nn.Identity()
        self.time = TemporalConv(stage.width, stage.width, stride=2) if stage.halves_time else None

    def forward(self, x: Tensor, cache: FeatureCache | None = None) -> Tensor:
        x = self.space(x)
        return x if self.time is None else self.time(x, cache)


class ConvUpsample(Causal):
    """Undoes `ConvDownsample`'s sizes: time by 3 taps that give two frames, space by repetition and a 3x3 convolution,
    which halves the width."""

    def __init__(self, stage: VAEStage, width: int) -> None:
        super().__init__()
        self.time = TemporalConv(width, 2 * width) if stage.halves_time else None
        self.space = ResamplingConv(width, width // 2) if stage.halves_space else None

    def forward(self, x: Tensor, cache: FeatureCache | None = None) -> Tensor:
        if self.time is not None:
            x = unfold_pairs(self, self.time(x, cache), cache)
        if self.space is None:
            return x
        b, t, h, w, c = x.shape
        result: Tensor = self.space(
            x[:, :, :, None, :, None].expand(b, t, h, 2, w, 2, c).reshape(b, t, 2 * h, 2 * w, c)
        )
        return result


def middle(width: int) -> list[nn.Module]:
    """Two residual blocks around the attention, where the picture is smallest."""
    return [FullResidualBlock(width, width), FrameAttention(width), FullResidualBlock(width, width)]


def encoder(spec: VAESpec, patch_dim: int) -> tuple[nn.Module, Chain, nn.Module]:
    """The way in, the levels, and the way out to 2c channels of the posterior."""
    width = spec.stages[0].width
    patch_in, levels = CausalConv(patch_dim, width), Chain()
    for stage in spec.stages:
        for _ in range(spec.blocks):
            levels.append(FullResidualBlock(width, stage.width))
            width = stage.width
        if stage.down != "none":
            levels.append(ConvDownsample(stage))
    levels.extend([*middle(width), PositionNorm(width)])
    return patch_in, levels, CausalConv(width, 2 * spec.latent_channels)


def decoder(spec: VAESpec, patch_dim: int) -> tuple[nn.Module, Chain, nn.Module]:
    """The way in from c channels of a latent, the levels, and the way out."""
    width = spec.stages[-1].width
    from_latent, levels = CausalConv(spec.latent_channels, width), Chain(*middle(width))
    for stage in reversed(spec.stages):
        if stage.down != "none":
            levels.append(ConvUpsample(stage, width))
            width = width // 2 if stage.halves_space else width
        for _ in range(spec.blocks + 1):
            levels.append(FullResidualBlock(width, stage.width))
            width = stage.width
    levels.append(PositionNorm(width))
    return from_latent, levels, CausalConv(width, patch_dim)
