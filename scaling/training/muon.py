"""The Muon optimizer. Which parameters it trains, and which AdamW trains, is decided in `scaling.training.module`."""

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from scaling.distributed.precision import product_dtype
from scaling.distributed.shards import local, shard, unshard

NEWTON_SCHULZ = (3.4445, -4.7750, 2.0315)
"""Coefficients of Muon's quintic Newton-Schulz iteration (Jordan et al. 2024). They make the polynomial steep at zero
and not exact at one."""


def orthogonalize(matrices: Tensor, steps: int = 5) -> Tensor:
    """Replaces the singular values of each matrix of a batch (n, rows, columns) by values of about one."""
    a, b, c = NEWTON_SCHULZ
    tall = matrices.shape[1] > matrices.shape[2]
    x = matrices.mT if tall else matrices
    x = x / (x.norm(dim=(1, 2), keepdim=True) + 1e-7)
    for _ in range(steps):
        gram = x @ x.mT
        x = torch.baddbmm(x, torch.baddbmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    return x.mT if tall else x


class Muon(torch.optim.Optimizer):
    """Nesterov momentum with an orthogonalized update. Matrices of one shape are orthogonalized as a batch, while
    `torch.optim.Muon` takes them one by one, which is a large part of a small model's step time.

    A parameter may hold k matrices stacked along its rows, such as those of queries, keys and values. They are
    orthogonalized separately.
    """

    def __init__(
        self, matrices: Mapping[nn.Parameter, int], lr: float, momentum: float = 0.95, weight_decay: float = 0.0
    ) -> None:
        """`matrices` maps each parameter to the number of matrices that it holds."""
        groups = [
            {"params": [matrix for matrix, count in matrices.items() if count == parts], "parts": parts}
            for parts in sorted(set(matrices.values()))
        ]
        super().__init__(groups, {"lr": lr, "momentum": momentum, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        """Updates all parameters that have gradients."""
        for group in self.param_groups:
            by_shape: dict[tuple[int, ...], list[Tensor]] = {}
            for parameter in group["params"]:
                if parameter.grad is not None:
                    by_shape.setdefault(tuple(parameter.shape), []).append(parameter)
            for shape, parameters in by_shape.items():
                self._step_shape(group, shape, parameters)

    def _step_shape(self, group: dict[str, Any], shape: tuple[int, ...], parameters: list[Tensor]) -> None:
        rows, columns = shape
        grads = [local(p.grad) for p in parameters if p.grad is not None]
        for p in parameters:
            if not self.state[p]:
                self.state[p]["momentum"] = torch.zeros_like(p)
        buffers = [local(self.state[p]["momentum"]) for p in parameters]
        torch._foreach_lerp_(buffers, grads, 1 - group["momentum"])
        nesterov = torch._foreach_lerp(grads, buffers, group["momentum"])
        # In the precision of all products: the original takes bfloat16, which is slow where a processor does not have
        # it. If a matrix is sharded among ranks, every rank orthogonalizes all of it.
        dtype = product_dtype()
        stacked = torch.stack([unshard(n.to(dtype), p) for n, p in zip(nesterov, parameters, strict=True)])
        parts = group["parts"]
        stacked = stacked.reshape(len(parameters) * parts, rows // parts, columns)
        # The scale makes the size of the update per element equal for all shapes (Muon, Jordan et al.: the square root
        # of max(1, rows / columns)).
        scale = math.sqrt(max(1.0, rows / parts / columns))
        update = orthogonalize(stacked).to(grads[0].dtype).reshape(len(parameters), rows, columns) * scale
        updates = [local(shard(full, p)) for full, p in zip(update, parameters, strict=True)]
        shards = [local(p) for p in parameters]
        if group["weight_decay"]:
            torch._foreach_mul_(shards, 1 - group["lr"] * group["weight_decay"])
        torch._foreach_add_(shards, updates, alpha=-group["lr"])
