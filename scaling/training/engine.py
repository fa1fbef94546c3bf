"""What an EngineSpec does to a model before it is trained: recomputed activations, compiled blocks, divided weights.

None of it changes names, shapes or, but for the last bits, values. Not the training itself, which is
`scaling.training.fit`.
"""

from collections.abc import Iterable
from functools import partial

import torch
from torch import nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import MixedPrecisionPolicy, fully_shard
from torch.utils.checkpoint import checkpoint

from scaling.core.specs import EngineSpec
from scaling.distributed.devices import current_device
from scaling.distributed.ranks import ranks


def prepare(model: nn.Module, blocks: Iterable[nn.Module], engine: EngineSpec) -> None:
    """Changes a model in place. Its optimizers and averages are made afterwards: sharding replaces parameters by this
    rank's parts of them. Where it shards, every rank calls it, with the same weights."""
    blocks = list(blocks)
    for block in blocks:
        if engine.compile:
            block.forward = torch.compile(block.forward)
        if engine.checkpoint_activations:  # around what is compiled: inside, torch.compile would leave the block alone
            # nothing in a block is random, so no state of a generator has to be kept
            block.forward = partial(checkpoint, block.forward, use_reentrant=False, preserve_rng_state=False)
    if engine.sharding == "shard" and ranks() > 1:
        kind = current_device().type
        mesh = init_device_mesh(kind, (ranks(),))
        # Weights travel as bfloat16, which autocast would make of them anyhow. Activations keep the precision that
        # autocast gives them. A CPU's gloo gains nothing from it.
        half = torch.bfloat16 if kind == "cuda" else None
        policy = MixedPrecisionPolicy(param_dtype=half, reduce_dtype=torch.float32, cast_forward_inputs=False)
        for part in [*blocks, model]:
            fully_shard(part, mesh=mesh, mp_policy=policy)
