"""Muon for matrices and AdamW for the rest, the schedule, and the average of the weights."""

import math
from collections.abc import Mapping

import torch
from scipy.optimize import brentq
from torch import Tensor, nn

from scaling.distributed.shards import local, shard, unshard

NEWTON_SCHULZ = (3.4445, -4.7750, 2.0315)
"""Coefficients of the quintic iteration of Muon (Jordan et al. 2024): steep at zero rather than exact at one."""


def orthogonalize(matrices: Tensor, steps: int = 5) -> Tensor:
    """Replaces the singular values of each matrix of a batch (n, rows, columns) by about one."""
    a, b, c = NEWTON_SCHULZ
    tall = matrices.shape[1] > matrices.shape[2]
    x = matrices.mT if tall else matrices
    x = x / (x.norm(dim=(1, 2), keepdim=True) + 1e-7)
    for _ in range(steps):
        gram = x @ x.mT
        x = torch.baddbmm(x, torch.baddbmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    return x.mT if tall else x


class Muon(torch.optim.Optimizer):
    """Momentum whose update is orthogonalized, matrices of one shape as a batch. `torch.optim.Muon` does them one by
    one, which takes a large share of a small model's step.

    A parameter of k matrices one above the other, such as queries, keys and values, is orthogonalized as k.
    """

    def __init__(
        self, matrices: Mapping[nn.Parameter, int], lr: float, momentum: float = 0.95, weight_decay: float = 0.0
    ) -> None:
        """`matrices` says of each parameter how many it holds."""
        groups = [
            {"params": [matrix for matrix, held in matrices.items() if held == parts], "parts": parts}
            for parts in sorted(set(matrices.values()))
        ]
        super().__init__(groups, {"lr": lr, "momentum": momentum, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        for group in self.param_groups:
            by_shape: dict[tuple[int, ...], list[Tensor]] = {}
            for parameter in group["params"]:
                if parameter.grad is not None:
                    by_shape.setdefault(tuple(parameter.shape), []).append(parameter)
            for shape, parameters in by_shape.items():
                self._step_shape(group, shape, parameters)

    def _step_shape(self, group: dict, shape: tuple[int, ...], parameters: list[Tensor]) -> None:
        rows, columns = shape
        grads = [local(p.grad) for p in parameters if p.grad is not None]
        for p in parameters:
            if not self.state[p]:
                self.state[p]["momentum"] = torch.zeros_like(p)
        buffers = [local(self.state[p]["momentum"]) for p in parameters]
        torch._foreach_lerp_(buffers, grads, 1 - group["momentum"])
        nesterov = torch._foreach_lerp(grads, buffers, group["momentum"])
        # bfloat16, as in the original: on a CPU three times faster than float32 on one thread, ten times on two.
        # Of a matrix that is divided among ranks every rank orthogonalizes the whole.
        stacked = torch.stack([unshard(n.bfloat16(), p) for n, p in zip(nesterov, parameters, strict=True)])
        parts = group["parts"]
        stacked = stacked.reshape(len(parameters) * parts, rows // parts, columns)
        # The scale keeps the update's size per element equal over shapes (Muon, Jordan et al.: the root of
        # max(1, rows / columns)).
        scale = math.sqrt(max(1.0, rows / parts / columns))
        update = orthogonalize(stacked).to(grads[0].dtype).reshape(len(parameters), rows, columns) * scale
        updates = [local(shard(whole, p)) for whole, p in zip(update, parameters, strict=True)]
        kept = [local(p) for p in parameters]
        if group["weight_decay"]:
            torch._foreach_mul_(kept, 1 - group["lr"] * group["weight_decay"])
        torch._foreach_add_(kept, updates, alpha=-group["lr"])


def schedule(step: int, steps: int, warmup_steps: float, decay_steps: float) -> float:
    """Factor on the learning rate of update `step` (from 0) of `steps`: linear rise over the first `warmup_steps`, one,
    then linear fall to zero over the last `decay_steps`. The smaller of rise and fall holds where they overlap."""
    rise = (step + 1) / max(1.0, warmup_steps)
    fall = (steps - step) / max(1.0, decay_steps)
    return min(1.0, rise, fall)


def updates_before_decay(steps: int, decay_steps: float) -> int:
    """How many of the updates come before the rate falls: runs of any length share them, if they warm up alike."""
    return math.floor(steps - decay_steps)


def ema_gamma(width: float) -> float:
    """Exponent of the power-function average whose relative width is `width`.

    EDM2 (arXiv 2312.02696, section 3.1): width^2 = (gamma + 1) / ((gamma + 2)^2 (gamma + 3)).
    """
    return float(brentq(lambda gamma: (gamma + 1) / ((gamma + 2) ** 2 * (gamma + 3)) - width**2, 0.0, 1e6))


class PowerEMA:
    """Average of the weights with weight t^gamma on step t (EDM2, arXiv 2312.02696, equation 4): scale-free, so a run
    of four hundred steps and one of four million are averaged over the same share of their training."""

    def __init__(self, model: nn.Module, width: float) -> None:
        self.gamma = ema_gamma(width)
        self.weights = {name: p.detach().clone() for name, p in model.named_parameters()}

    @torch.no_grad()
    def update(self, model: nn.Module, step: int) -> None:
        """Takes in the weights after update `step`, counted from 1."""
        beta = (1 - 1 / step) ** (self.gamma + 1)
        parameters = [local(p) for p in model.parameters()]
        torch._foreach_lerp_([local(w) for w in self.weights.values()], parameters, 1 - beta)
