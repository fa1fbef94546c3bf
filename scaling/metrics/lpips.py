"""LPIPS: how different two images look, as a distance between the features of a frozen network. One number per pair.

Zhang et al., arXiv 1801.03924, version 0.1 of its linear heads ("lin"), on AlexNet ("alex", which the paper recommends
for measuring) or VGG16 ("vgg", which it recommends for training). Differentiable in both images; nothing in it is
trained.
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
"""Mean and standard deviation of red, green and blue in ImageNet, for pixels in [-1, 1]; rounded as by the authors."""
CHUNK_PIXELS = 2**16
"""Pixels of the images, and as many of the references, that are in the network at once, but at least one image. VGG16
then needs 0.2 GB more memory, without gradients."""


class FeatureLayer(NamedTuple):
    """One convolution with its ReLU."""

    stride: int = 1
    padding: int = 1
    pool: int = 0
    """Side of the max pooling of stride 2 that comes before the convolution; 0 for none."""
    compared: bool = True
    """Whether its output is one of the five feature maps that are compared."""


HIDDEN = FeatureLayer(compared=False)
LAYERS: dict[Backbone, tuple[FeatureLayer, ...]] = {
    "alex": (
        FeatureLayer(stride=4, padding=2),
        FeatureLayer(padding=2, pool=3),
        FeatureLayer(pool=3),
        FeatureLayer(),
        FeatureLayer(),
    ),
    "vgg": (
        *(HIDDEN, FeatureLayer()),
        *(FeatureLayer(pool=2, compared=False), FeatureLayer()),
        *(FeatureLayer(pool=2, compared=False), HIDDEN, FeatureLayer()) * 3,
    ),
}
SMALLEST: dict[Backbone, int] = {"alex": 31, "vgg": 16}
"""Side in pixels below which the last feature map would be empty."""


class LPIPS(nn.Module):
    """The distance. Autocast applies to the convolutions; the features are compared in fp32."""

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
        """Two tensors (..., h, w, 3) in [-1, 1] -> distances (...), fp32, 0 for equal images.

        Raises UserError where a side is shorter than `SMALLEST`.
        """
        assert images.shape == references.shape, f"shapes {tuple(images.shape)} and {tuple(references.shape)} differ"
        *leading, h, w, _ = images.shape
        if min(h, w) < SMALLEST[self.backbone]:
            smallest = SMALLEST[self.backbone]
            raise UserError(f"images of {w}x{h} are too small for LPIPS on {self.backbone}, which needs {smallest}")
        count = max(1, CHUNK_PIXELS // (h * w))
        chunks = (torch.split(batch.reshape(-1, h, w, 3), count) for batch in (images, references))
        pairs = zip(*chunks, strict=True)
        return torch.cat([self._chunk(*pair) for pair in pairs]).reshape(leading)

    def _chunk(self, images: Tensor, references: Tensor) -> Tensor:
        """(n, h, w, 3) twice -> (n,). Equation 1 of the paper: features of unit length over their channels, squared
        differences weighted by the head, averaged over positions, summed over maps."""
        distance = torch.zeros(len(images), device=images.device)
        # two calls and not one batch, so that no gradient is computed for a reference that needs none
        for number, maps in enumerate(zip(self._features(images), self._features(references), strict=True)):
            # `normalize` divides by max(length, eps), the authors by length + eps. In fp32 that is the same, and its
            # gradient is 0 and not NaN where all channels are 0.
            of_images, of_references = (F.normalize(features.float(), dim=1, eps=1e-10) for features in maps)
            head = self.get_buffer(f"head_{number}_weight")
            distance = distance + ((of_images - of_references).square().mean(dim=(2, 3)) * head).sum(dim=1)
        return distance

    def _features(self, pixels: Tensor) -> Iterator[Tensor]:
        """Pixels (n, h, w, 3) -> the five feature maps (n, c, h / s, w / s)."""
        x = ((pixels.float() - self.shift) / self.scale).movedim(-1, 1)
        for number, layer in enumerate(self.layers):
            if layer.pool:
                x = F.max_pool2d(x, layer.pool, stride=2)
            weight, bias = self.get_buffer(f"conv_{number}_weight"), self.get_buffer(f"conv_{number}_bias")
            x = F.conv2d(x, weight, bias, layer.stride, layer.padding).relu()
            if layer.compared:
                yield x
