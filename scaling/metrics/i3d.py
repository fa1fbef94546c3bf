"""I3D: the network whose logits are the features of the Fréchet video distance, which is in `scaling.metrics.fvd`.

Inception-v1 inflated to three dimensions, RGB stream, Kinetics-400 (Carreira & Zisserman, arXiv 1705.07750), with the
weights of the original FVD (Unterthiner et al., arXiv 1812.01717). Layers carry the names of the published graph.
"""

from collections.abc import Mapping
from functools import reduce
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from torch import Tensor, nn

from scaling.core.errors import UserError
from scaling.metrics.precision import full_precision
from scaling.pretrained import weights

EXTRACTOR = "i3d_k400"
"""Name of these features in the records."""
SIZE = 224
"""Side of the square input of the network, in pixels."""
MIN_FRAMES = 9
"""Time is halved three times, rounding up, and the last average needs two frames."""
BATCH_FRAMES = 32
"""Frames in the network at once: 16 to 64 are equally fast on a CPU, and 32 keep the process under 1 GB."""
BATCH_NORM_EPS = 1e-3

Tensors = Mapping[str, Tensor]
Extent = tuple[int, int, int]
"""Extent along t, h and w."""


def same_padding(size: int, kernel: int, stride: int) -> tuple[int, int]:
    """The zeros before and after an axis that give `ceil(size / stride)` output positions, as TensorFlow's SAME does.

    If the total is odd, the extra zero comes after.
    """
    total = max((-(-size // stride) - 1) * stride + kernel - size, 0)
    return total // 2, total - total // 2


def pad_same(x: Tensor, kernel: Extent, stride: Extent) -> Tensor:
    """Pads (b, c, t, h, w) with zeros for a window."""
    pads = [same_padding(*axis) for axis in zip(x.shape[2:], kernel, stride, strict=True)]
    flat = [side for pair in reversed(pads) for side in pair]  # F.pad starts at the last axis
    return F.pad(x, flat) if any(flat) else x


def max_pool_same(x: Tensor, kernel: Extent, stride: Extent) -> Tensor:
    """The largest value in each window of (b, c, t, h, w). Pads with zeros, so x must not be negative; it follows a
    ReLU.

    One axis after another, which saves a third of the CPU time of the whole network compared with `F.max_pool3d`.
    """
    x = pad_same(x, kernel, stride)
    for axis, (width, step) in enumerate(zip(kernel, stride, strict=True), start=2):
        last = x.shape[axis] - width
        shifts = [x.movedim(axis, 0)[offset : offset + last + 1 : step] for offset in range(width)]
        x = reduce(torch.maximum, shifts).movedim(0, axis)
    return x


class Unit(nn.Module):
    """Convolution, batch norm, ReLU. The norm is folded into the convolution, because its variances are all above
    0.2."""

    weight: Tensor
    bias: Tensor

    def __init__(self, tensors: Tensors, *names: str, stride: int = 1) -> None:
        """Several names are layers with the same input and kernel size; they are computed together and their outputs
        are concatenated along the channels."""
        super().__init__()
        kernels, offsets = [], []
        for name in names:
            scale = (tensors[f"{name}.var"] + BATCH_NORM_EPS).rsqrt()  # the norm has no gamma
            kernels.append(tensors[f"{name}.weight"] * scale[:, None, None, None, None])
            offsets.append(tensors[f"{name}.bias"] - tensors[f"{name}.mean"] * scale)
        weight = torch.cat(kernels)
        self.register_buffer("weight", weight.contiguous(memory_format=torch.channels_last_3d))
        self.register_buffer("bias", torch.cat(offsets))
        self.kernel: Extent = (weight.shape[2], weight.shape[3], weight.shape[4])
        self.stride: Extent = (stride, stride, stride)

    def forward(self, x: Tensor) -> Tensor:
        if self.kernel == (1, 1, 1):  # a matrix product saves 9 % of the CPU time of the whole network
            return F.linear(x.movedim(1, -1), self.weight.flatten(1), self.bias).relu_().movedim(-1, 1)
        x = pad_same(x, self.kernel, self.stride)
        return F.conv3d(x, self.weight, self.bias, self.stride).relu_()


class Inception(nn.Module):
    """Four branches side by side: 1x1x1; 1x1x1 then 3x3x3, twice; 3x3x3 maximum then 1x1x1."""

    def __init__(self, tensors: Tensors, name: str) -> None:
        super().__init__()
        heads = [f"{name}.Branch_{branch}.Conv3d_0a_1x1" for branch in range(3)]
        self.widths = [tensors[f"{head}.bias"].shape[0] for head in heads]
        self.heads = Unit(tensors, *heads)
        self.branch_1 = Unit(tensors, f"{name}.Branch_1.Conv3d_0b_3x3")
        self.branch_2 = Unit(tensors, f"{name}.Branch_2.Conv3d_0b_3x3")
        self.branch_3 = Unit(tensors, f"{name}.Branch_3.Conv3d_0b_1x1")

    def forward(self, x: Tensor) -> Tensor:
        head_0, head_1, head_2 = self.heads(x).split(self.widths, dim=1)
        pooled = max_pool_same(x, (3, 3, 3), (1, 1, 1))
        return torch.cat([head_0, self.branch_1(head_1), self.branch_2(head_2), self.branch_3(pooled)], dim=1)


class MaxPool(nn.Module):
    """Maximum over a window, SAME-padded."""

    def __init__(self, kernel: Extent, stride: Extent) -> None:
        super().__init__()
        self.kernel = kernel
        self.stride = stride

    def forward(self, x: Tensor) -> Tensor:
        return max_pool_same(x, self.kernel, self.stride)


class I3D(nn.Module):
    """Frozen I3D RGB. `forward` is the network on prepared input; `features` takes clips as they are read from
    files."""

    logits_weight: Tensor
    logits_bias: Tensor

    def __init__(self, path: Path | None = None) -> None:
        """Loads the safetensors file of `scaling.pretrained.weights.i3d`, which is fetched if `path` is None."""
        super().__init__()
        tensors = load_file(path or weights.i3d())
        self.blocks = nn.Sequential(
            Unit(tensors, "Conv3d_1a_7x7", stride=2),
            MaxPool((1, 3, 3), (1, 2, 2)),
            Unit(tensors, "Conv3d_2b_1x1"),
            Unit(tensors, "Conv3d_2c_3x3"),
            MaxPool((1, 3, 3), (1, 2, 2)),
            *(Inception(tensors, f"Mixed_3{letter}") for letter in "bc"),
            MaxPool((3, 3, 3), (2, 2, 2)),
            *(Inception(tensors, f"Mixed_4{letter}") for letter in "bcdef"),
            MaxPool((2, 2, 2), (2, 2, 2)),
            *(Inception(tensors, f"Mixed_5{letter}") for letter in "bc"),
        )
        self.register_buffer("logits_weight", tensors["Logits.Conv3d_0c_1x1.weight"].flatten(1))  # (400, 1024)
        self.register_buffer("logits_bias", tensors["Logits.Conv3d_0c_1x1.bias"])

    def forward(self, x: Tensor) -> Tensor:
        """(b, 3, t, 224, 224) in [-1, 1], t >= 9 -> logits (b, 400), averaged over time."""
        x = self.blocks(x.contiguous(memory_format=torch.channels_last_3d))  # (b, 1024, t / 8, 7, 7)
        x = F.avg_pool1d(x.mean(dim=(3, 4)), 2, stride=1).mean(dim=2)  # (b, 1024)
        return F.linear(x, self.logits_weight, self.logits_bias)

    @torch.inference_mode()
    def features(self, clips: Tensor | np.ndarray) -> np.ndarray:
        """Clips (b, t, h, w, 3), uint8 or float in [0, 1], t >= 9 -> features (b, 400), fp32, without TF32.

        Frames are resized to 224 x 224 whatever their aspect ratio, as in the original FVD (arXiv 1812.01717); VideoGPT
        and StyleGAN-V crop them instead. The bilinear filter has its samples at pixel centers (`align_corners=False`)
        and no antialiasing.

        Raises UserError where a clip has fewer than 9 frames.
        """
        clips = torch.as_tensor(clips)
        t = clips.shape[1]
        assert clips.shape[-1] == 3, f"expected (b, t, h, w, 3), found {tuple(clips.shape)}"
        if t < MIN_FRAMES:
            raise UserError(f"clips of {t} frames are too short for {EXTRACTOR}, which needs at least {MIN_FRAMES}")
        with full_precision(self.logits_bias.device):
            batches = [self(self._prepare(batch)).cpu() for batch in torch.split(clips, max(1, BATCH_FRAMES // t))]
        features: np.ndarray = torch.cat(batches).numpy()
        return features

    def _prepare(self, clips: Tensor) -> Tensor:
        """(b, t, h, w, 3) -> (b, 3, t, 224, 224) in [-1, 1]."""
        b, t = clips.shape[:2]
        frames = clips.to(self.logits_bias.device).flatten(0, 1).movedim(-1, 1)  # (b t, 3, h, w)
        frames = frames.float() * (2 if clips.is_floating_point() else 2 / 255) - 1
        frames = F.interpolate(frames, (SIZE, SIZE), mode="bilinear", align_corners=False)
        return torch.unflatten(frames, 0, (b, t)).movedim(2, 1)
