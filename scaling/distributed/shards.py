"""Tensors whose rows are sharded among the ranks (DTensor). A tensor that is not sharded passes through unchanged.

The sharding of a model itself is in `scaling.training.engine`.
"""

from collections.abc import Mapping

from torch import Tensor
from torch.distributed.tensor import DTensor, distribute_tensor

from scaling.distributed.ranks import rank


def local(tensor: Tensor) -> Tensor:
    """The shard that this rank holds. It shares memory with the sharded tensor."""
    return tensor.to_local() if isinstance(tensor, DTensor) else tensor


def unshard(part: Tensor, like: Tensor) -> Tensor:
    """The full tensor from each rank's part of it, which is sharded as `like` is. All ranks have to call this."""
    if not isinstance(like, DTensor):
        return part
    mesh, placements = like.device_mesh, like.placements
    full: Tensor = DTensor.from_local(part, mesh, placements, shape=like.shape, stride=like.stride()).full_tensor()
    return full


def shard(full: Tensor, like: Tensor) -> Tensor:
    """A full tensor sharded as `like` is. A tensor of another shape stays full, such as an optimizer's step count."""
    if not isinstance(like, DTensor) or full.shape != like.shape:
        return full
    full = full.to(like.device)
    return distribute_tensor(full, like.device_mesh, like.placements, src_data_rank=None)


def full_on_first_rank(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """All tensors in full on the CPU of the first rank, and an empty dictionary on the others. All ranks have to call
    this."""
    full_tensors = {}
    for name in sorted(tensors):  # an order that all ranks share: the states of optimizers come in any order
        tensor = tensors[name]
        full = tensor.full_tensor() if isinstance(tensor, DTensor) else tensor
        if rank() == 0:
            full_tensors[name] = full.cpu()
    return full_tensors
