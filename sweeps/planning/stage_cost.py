"""What one stage costs on any machine, as values."""

from dataclasses import dataclass


@dataclass(frozen=True)
class TrainingCost:
    """What a training comes to."""

    n_params: int | None
    """Parameters without embeddings; None for a VAE, which no law is fitted to."""
    num_tokens: float | None
    train_flops: float
    """Training FLOPs behind the weights at its end."""
    spent_flops: float
    """Training FLOPs of this stage itself, without those of the trunk that it continues."""
    steps: int
    """Updates behind the weights at its end."""


@dataclass(frozen=True)
class StageCost:
    """The cost of one stage on any machine. A number is None where it is not known before the data is there."""

    training: TrainingCost | None = None
    """The training, by all processes of the stage; None where nothing is trained."""
    other_flops: float | None = 0.0
    """FLOPs of one process that encodes, samples or measures."""
    seconds: float | None = 0.0
    """Seconds of one CPU core, for work that is not counted in FLOPs."""
    disk_bytes: float | None = 0.0
    """Bytes that the stage leaves on disk."""
