"""The power-function average of the weights, which is what a run is evaluated with."""

import torch
from scipy.optimize import brentq
from torch import nn

from scaling.distributed.shards import local


def ema_gamma(width: float) -> float:
    """The exponent of the power-function average with this relative width.

    EDM2 (arXiv 2312.02696, section 3.1): width^2 = (gamma + 1) / ((gamma + 2)^2 (gamma + 3)).
    """
    return float(brentq(lambda gamma: (gamma + 1) / ((gamma + 2) ** 2 * (gamma + 3)) - width**2, 0.0, 1e6))


class PowerEMA:
    """An average of the model's weights that gives step t the weight t^gamma (EDM2, arXiv 2312.02696, equation 4). It
    is scale-free: a run of four hundred steps and one of four million are averaged over the same share of their
    training."""

    def __init__(self, model: nn.Module, width: float) -> None:
        self.gamma = ema_gamma(width)
        self.weights = {name: p.detach().clone() for name, p in model.named_parameters()}

    @torch.no_grad()
    def update(self, model: nn.Module, step: int) -> None:
        """Includes the weights after update `step`, counted from 1."""
        beta = (1 - 1 / step) ** (self.gamma + 1)
        parameters = [local(p) for p in model.parameters()]
        torch._foreach_lerp_([local(weight) for weight in self.weights.values()], parameters, 1 - beta)
