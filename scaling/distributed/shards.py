"""Tensors of which each rank keeps a part, by rows (DTensor); a tensor that is not divided passes through unchanged.

Not who divides them, which is `scaling.training.engine`.
"""

from collections.abc import Mapping

from torch import Tensor
from torch.distributed.tensor import DTensor, distribute_tensor

from scaling.distributed.ranks import rank


def local(tensor: Tensor) -> Tensor:
    """The part that this rank keeps; it shares memory with the whole."""
    return tensor.to_local() if isinstance(tensor, DTensor) else tensor


def whole(tensor: Tensor) -> Tensor:
    """The parts of all ranks. All of them have to ask."""
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


def whole_of_part(part: Tensor, pattern: Tensor) -> Tensor:
    """The whole of what each rank has a part of, divided as `pattern` is. All of them have to ask."""
    if not isinstance(pattern, DTensor):
        return part
    mesh, placements = pattern.device_mesh, pattern.placements
    return DTensor.from_local(part, mesh, placements, shape=pattern.shape, stride=pattern.stride()).full_tensor()


def part_of_whole(full: Tensor, pattern: Tensor) -> Tensor:
    """A whole tensor divided as `pattern` is. What has another shape stays whole, as an optimizer's count of steps
    does."""
    if not isinstance(pattern, DTensor) or full.shape != pattern.shape:
        return full
    full = full.to(pattern.device)
    return distribute_tensor(full, pattern.device_mesh, pattern.placements, src_data_rank=None)


def gathered(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """All of them whole on the first rank's CPU, and nothing on the others, which have to ask too."""
    found = {}
    for name in sorted(tensors):  # an order that all agree on: optimizers' states come in any
        full = whole(tensors[name])
        if rank() == 0:
            found[name] = full.cpu()
    return found
