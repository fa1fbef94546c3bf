"""What a layer of a network costs, so that parameters and FLOPs are sums over named layers. Imports no torch.

`scaling.accounting.dit_layers` lists the layers of the DiT, `scaling.accounting.vae_layers` those of the VAE.
"""

from collections.abc import Iterable
from typing import NamedTuple


class LayerCost(NamedTuple):
    """A product with a matrix of `weights` entries at each of `positions` places."""

    name: str
    """The name of the layer in its module, such as `encoder.2.conv_1`; `*` stands for the number of any block."""
    weights: int = 0
    """Entries of the matrix."""
    vectors: int = 0
    """Parameters that are added or multiplied elementwise: biases and gains."""
    positions: int = 0
    """How often the matrix is multiplied with a vector."""
    attention: int = 0
    """Multiply-adds between positions."""
    copies: int = 1
    """How many such layers the network has."""
    reads_data: bool = False
    """Whether the input needs no gradient, because nothing before it is trained."""

    @property
    def params(self) -> int:
        return self.copies * (self.weights + self.vectors)

    @property
    def multiply_adds(self) -> int:
        """Of one forward pass."""
        return self.copies * (self.weights * self.positions + self.attention)

    @property
    def training_multiply_adds(self) -> int:
        """Of the forward pass and of the gradients of the weights and, where they are needed, of the inputs."""
        return (2 if self.reads_data else 3) * self.multiply_adds


def forward_flops(layers: Iterable[LayerCost]) -> float:
    """FLOPs of one forward pass."""
    return 2.0 * sum(layer.multiply_adds for layer in layers)


def training_flops(layers: Iterable[LayerCost]) -> float:
    """FLOPs of one forward and backward pass."""
    return 2.0 * sum(layer.training_multiply_adds for layer in layers)
