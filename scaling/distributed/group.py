"""The process group of the ranks that train one model, and the collectives that they use. All of it works in a process
without other ranks, too.

How ranks are started is in `scaling.distributed.ranks`; how they divide a model is in `scaling.training.engine`.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta

import torch
import torch.distributed as dist
from torch import Tensor

from scaling.core.errors import UserError
from scaling.distributed.ranks import rank_on_node, ranks_on_node, world_size

TIMEOUT = timedelta(minutes=30)
"""How long a rank waits for the others in a collective. It is long because the first rank draws samples and writes
files while the others wait."""


@contextmanager
def process_group() -> Iterator[None]:
    """Joins the process group, and leaves it if the body succeeds. If the body fails, the rank just ends, and whoever
    started the ranks ends the others.

    Raises UserError where the node has fewer GPUs than ranks.
    """
    if world_size() == 1:
        yield
        return
    cuda = torch.cuda.is_available()
    if cuda:
        if torch.cuda.device_count() < ranks_on_node():
            raise UserError(
                f"{ranks_on_node()} ranks are on this node, but this job sees {torch.cuda.device_count()} GPUs: "
                "lower engine.processes, or raise hardware.gpus"
            )
        torch.cuda.set_device(rank_on_node())
    dist.init_process_group("cpu:gloo,cuda:nccl" if cuda else "gloo", timeout=TIMEOUT)
    yield
    dist.destroy_process_group()


def all_gather(values: Tensor) -> Tensor:
    """Collects a small CPU tensor of the same shape from every rank: (ranks, ...) on each rank. Nothing is pickled."""
    if world_size() == 1:
        return values[None]
    parts = [torch.empty_like(values) for _ in range(world_size())]
    dist.all_gather(parts, values)
    return torch.stack(parts)


def sum_over_ranks(value: Tensor) -> Tensor:
    """The sum of the tensors of all ranks, on each rank."""
    if world_size() > 1:
        value = value.clone()
        dist.all_reduce(value)
    return value
