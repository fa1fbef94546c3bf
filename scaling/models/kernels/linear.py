"""Several linear maps of one input in one product, and which weights of a network are matrices."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class FusedLinear(nn.Linear):
    """`parts` linear maps side by side: (..., width) -> (..., parts * width_out)."""

    def __init__(self, width: int, width_out: int, parts: int, bias: bool = True) -> None:
        super().__init__(width, parts * width_out, bias=bias)
        self.parts = parts


def fused_linear_reference(x: Tensor, weight: Tensor, bias: Tensor, parts: int) -> Tensor:
    """y_i = W_i x + b_i, one product for each part."""
    maps = zip(weight.chunk(parts), bias.chunk(parts), strict=True)
    return torch.cat([F.linear(x, part_weight, part_bias) for part_weight, part_bias in maps], dim=-1)


def linear_matrices(*networks: nn.Module) -> dict[nn.Parameter, int]:
    """The weight of every linear layer in these networks, with the number of matrices that it holds."""
    layers = [layer for network in networks for layer in network.modules() if isinstance(layer, nn.Linear)]
    return {
        parameter: layer.parts if isinstance(layer, FusedLinear) else 1
        for layer in layers
        for parameter in layer.parameters(recurse=False)
        if parameter.ndim == 2
    }
