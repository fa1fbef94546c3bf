"""Several linear maps of one input in one product; which weights of a network are matrices, and how many each holds."""

from torch import nn


class FusedLinear(nn.Linear):
    """`parts` linear maps side by side: (..., width) -> (..., parts * width_out)."""

    def __init__(self, width: int, width_out: int, parts: int, bias: bool = True) -> None:
        super().__init__(width, parts * width_out, bias=bias)
        self.parts = parts


def linear_matrices(*networks: nn.Module) -> dict[nn.Parameter, int]:
    """The weight of every linear layer in these networks, with the number of matrices that it holds."""
    layers = [layer for network in networks for layer in network.modules() if isinstance(layer, nn.Linear)]
    return {
        parameter: layer.parts if isinstance(layer, FusedLinear) else 1
        for layer in layers
        for parameter in layer.parameters(recurse=False)
        if parameter.ndim == 2
    }
