"""Spec of how a machine does the work of a stage."""

from typing import Literal

from pydantic import Field

from scaling.core.specs.base import Spec

Precision = Literal["bf16", "fp32"]
"""The precision of matrix products: bfloat16 or float32."""


class EngineSpec(Spec):
    """How the machine does the work of a stage. It is not part of the stage's id: results depend on it by rounding
    only."""

    threads: int = Field(1, ge=1)
    """CPU threads of a process. The order of floating-point sums depends on them."""
    precision: Precision | None = None
    """Precision of matrix products and convolutions, `bf16` or `fp32`; weights and sums are float32 in both. Null takes
    bf16 on a GPU; on a CPU, `scaling run` measures which of the two is faster there, and keeps it for the whole
    sweep."""
    processes: int = Field(1, ge=1)
    """Number of ranks on this machine: one for each GPU, or CPU processes."""
    sharding: Literal["replicate", "shard"] = "replicate"
    """Whether each rank keeps all weights (`replicate`, DDP) or a part of them (`shard`, FSDP2)."""
    micro_tokens: int | None = Field(None, ge=1)
    """Most tokens in one forward pass of a rank; the gradients of a larger share of the batch are accumulated. Null
    takes the share at once."""
    micro_batch_halvings: int = Field(0, ge=0)
    """How often micro-batches were halved because memory ran out. The number of failed attempts sets it, not the
    user."""
    compile: bool = False
    """Whether every block is compiled by torch.compile."""
    checkpoint_activations: bool = False
    """Whether blocks recompute their activations in the backward pass instead of keeping them."""
    workers: int = Field(0, ge=0)
    """Processes of a rank that prepare batches; 0 prepares them between the updates."""

    @property
    def cores(self) -> int:
        """CPU threads of all ranks together."""
        return self.threads * self.processes
