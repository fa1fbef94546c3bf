"""What one stage costs on any machine, as values."""

from dataclasses import dataclass


@dataclass(frozen=True)
class TrainingCost:
    """What a training comes to. N, D and C are the law's: parameters without embeddings, tokens, training FLOPs."""

    n_params: int | None
    """None for a VAE, which no law is fitted to."""
    num_tokens: float | None
    train_flops: float
    """Behind the weights at its end."""
    spent_flops: float
    """Of this stage itself: not those of the trunk that it goes on from."""
    steps: int
    """From the very beginning."""


@dataclass(frozen=True)
class StageCost:
    """Of one stage, on any machine. None is not known before the data is there."""

    training: TrainingCost | None = None
    """By all of its processes; None where nothing is trained."""
    other_flops: float | None = 0.0
    """By one process: encoding, sampling, measuring."""
    seconds: float | None = 0.0
    """Of one CPU core, for work that is not counted in FLOPs."""
    disk_bytes: float | None = 0.0
