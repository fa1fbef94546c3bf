"""LPIPS: how different two images look, as a distance of a frozen network's features. Images in, a number each out.

Zhang et al., arXiv 1801.03924, version 0.1 of its linear heads ("lin"), on AlexNet ("alex", the paper's choice for
measuring) or VGG16 ("vgg", its choice for training against). Differentiable in both images; nothing in it is trained.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Literal, NamedTuple

import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from torch import Tensor, nn

from scaling.core.errors import UserError
from scaling.pretrained import weights

Backbone = Literal["alex", "vgg"]

SHIFT, SCALE = (-0.030, -0.088, -0.188), (0.458, 0.448, 0.450)
"""ImageNet's mean and deviation of red, green and blue, for pixels in [-1, 1]; rounded as the authors did."""
CHUNK_PIXELS = 2**16
"""Pixels of each side in the network at once, at least one image: VGG16 then needs 0.2 GB more, without gradients."""


class Layer(NamedTuple):
    """One convolution with its ReLU."""

    stride: int = 1
    padding: int = 1
    pool: int = 0
    """Side of the maximum, stride 2, that comes before; 0 for none."""
    compared: bool = True
    """Whether its output is one of the five feature maps."""


HIDDEN = Layer(compared=False)
LAYERS: dict[Backbone, tuple[Layer, ...]] = {
    "alex": (Layer(stride=4, padding=2), Layer(padding=2, pool=3), Layer(pool=3), Layer(), Layer()),
    "vgg": (
        *(HIDDEN, Layer()),
        *(Layer(pool=2, compared=False), Layer()),
        *(Layer(pool=2, compared=False), HIDDEN, Layer()) * 3,
    ),
}
SMALLEST: dict[Backbone, int] = {"alex": 31, "vgg": 16}
"""Side below which the last feature map would be empty."""


class LPIPS(nn.Module):
    """The distance. Under autocast the convolutions follow it; the features are compared in fp32."""

    shift: Tensor
    scale: Tensor

    def __init__(self, backbone: Backbone = "alex", folder: Path | None = None) -> None:
        """Loads a file of `scaling.pretrained.weights.lpips`, which is fetched if `folder` is None."""
        super().__init__()
        self.backbone, self.layers = backbone, LAYERS[backbone]
        for name, tensor in load_file((folder or weights.lpips()) / f"{backbone}.safetensors").items():
            self.register_buffer(name.replace(".", "_"), tensor, persistent=False)
        self.register_buffer("shift", torch.tensor(SHIFT), persistent=False)
        self.register_buffer("scale", torch.tensor(SCALE), persistent=False)

    def forward(self, images: Tensor, references: Tensor) -> Tensor:
        """Two of (..., h, w, 3) in [-1, 1] -> distances (...), fp32, 0 for equal images.

        Raises UserError where a side is shorter than `SMALLEST`.
        """
        assert images.shape == references.shape, f"{tuple(images.shape)} and {tuple(references.shape)} do not compare"
        *leading, h, w, _ = images.shape
        if min(h, w) < SMALLEST[self.backbone]:
            smallest = SMALLEST[self.backbone]
            raise UserError(f"images of {w}x{h} are too small for LPIPS on {self.backbone}, which needs {smallest}")
        count = max(1, CHUNK_PIXELS // (h * w))
        pairs = zip(*(side.reshape(-1, h, w, 3).split(count) for side in (images, references)), strict=True)
        return torch.cat([self._chunk(*pair) for pair in pairs]).reshape(leading)

    def _chunk(self, images: Tensor, references: Tensor) -> Tensor:
        """(n, h, w, 3) twice -> (n,). Equation 1 of the paper: features of unit length over their channels, squared
        differences weighted by the head, averaged over positions, summed over maps."""
        distance = torch.zeros(len(images), device=images.device)
        # side by side and not as one batch: no gradient is computed for a reference that needs none
        for number, maps in enumerate(zip(self._features(images), self._features(references), strict=True)):
            # `normalize` divides by max(length, eps), the authors by length + eps: the same in fp32, and its gradient
            # is 0 and not NaN where all channels are 0
            left, right = (F.normalize(features.float(), dim=1, eps=1e-10) for features in maps)
            head = self.get_buffer(f"head_{number}_weight")
            distance = distance + ((left - right).square().mean(dim=(2, 3)) * head).sum(dim=1)
        return distance

    def _features(self, pixels: Tensor) -> Iterator[Tensor]:
        """The five maps (n, c, h / s, w / s) of pixels (n, h, w, 3)."""
        x = ((pixels.float() - self.shift) / self.scale).movedim(-1, 1)
        for number, layer in enumerate(self.layers):
            if layer.pool:
                x = F.max_pool2d(x, layer.pool, stride=2)
            weight, bias = self.get_buffer(f"conv_{number}_weight"), self.get_buffer(f"conv_{number}_bias")
            x = F.conv2d(x, weight, bias, layer.stride, layer.padding).relu()
            if layer.compared:
                yield x
