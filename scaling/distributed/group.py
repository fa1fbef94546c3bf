"""How the ranks that train one model meet and what they tell each other. Works in a process that is alone, too.

Not how ranks are started, which is `scaling.distributed.ranks`; not what they do to a model, which is
`scaling.training.engine`.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta

import torch
import torch.distributed as dist
from torch import Tensor

from scaling.core.errors import UserError
from scaling.distributed.ranks import rank_on_node, ranks, ranks_on_node

PATIENCE = timedelta(minutes=30)
"""How long a rank waits for the others: the first one draws samples and writes files meanwhile."""


@contextmanager
def together() -> Iterator[None]:
    """The ranks meet and, if nothing fails, part again. After a failure a rank just ends, and the others with it.

    Raises UserError where there are fewer GPUs than ranks.
    """
    if ranks() == 1:
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
    dist.init_process_group("cpu:gloo,cuda:nccl" if cuda else "gloo", timeout=PATIENCE)
    yield
    dist.destroy_process_group()


def everywhere(values: Tensor) -> Tensor:
    """A small CPU tensor of every rank -> (ranks, ...), on each of them. Nobody pickles anything."""
    if ranks() == 1:
        return values[None]
    parts = [torch.empty_like(values) for _ in range(ranks())]
    dist.all_gather(parts, values)
    return torch.stack(parts)


def sum_over_ranks(value: Tensor) -> Tensor:
    """On each of the ranks."""
    if ranks() > 1:
        value = value.clone()
        dist.all_reduce(value)
    return value
