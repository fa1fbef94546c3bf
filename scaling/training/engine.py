"""Prepares a model for training as an EngineSpec says: activation checkpointing, compiled blocks, sharded weights.

None of these changes names or shapes, and values change by rounding only. The training itself is in
`scaling.training.loop`.
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
from scaling.distributed.ranks import world_size
from scaling.models.kernels.attention import leave_mixed_lengths_uncompiled


def prepare(model: nn.Module, blocks: Iterable[nn.Module], engine: EngineSpec) -> None:
    """Changes a model in place. Its optimizers and averages have to be made afterwards, because sharding replaces each
    parameter by this rank's shard of it. For sharding, every rank calls this, with the same weights."""
    blocks = list(blocks)
    if engine.compile:
        leave_mixed_lengths_uncompiled()
    for block in blocks:
        if engine.compile:
            block.forward = torch.compile(block.forward)
        if engine.checkpoint_activations:
            # The checkpoint is outside the compiled function, because with it inside torch.compile would not compile
            # the block. Nothing in a block is random, so no state of a generator has to be preserved.
            block.forward = partial(checkpoint, block.forward, use_reentrant=False, preserve_rng_state=False)
    if engine.sharding == "shard" and world_size() > 1:
        kind = current_device().type
        mesh = init_device_mesh(kind, (world_size(),))
        # Weights are gathered in bfloat16, to which autocast would cast them anyway. Activations keep the precision
        # that autocast gives them. On a CPU, gloo gains nothing from bfloat16.
        dtype = torch.bfloat16 if kind == "cuda" else None
        policy = MixedPrecisionPolicy(param_dtype=dtype, reduce_dtype=torch.float32, cast_forward_inputs=False)
        for module in [*blocks, model]:
            fully_shard(module, mesh=mesh, mp_policy=policy)
