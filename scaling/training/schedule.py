"""The learning-rate schedule: warmup, constant, linear decay."""

import math


def schedule(step: int, steps: int, warmup_steps: float, decay_steps: float) -> float:
    """The factor on the learning rate in update `step` (from 0) of `steps`: it rises linearly over the first
    `warmup_steps`, is then one, and falls linearly to zero over the last `decay_steps`. Where warmup and decay overlap,
    the smaller factor holds."""
    warmup = (step + 1) / max(1.0, warmup_steps)
    decay = (steps - step) / max(1.0, decay_steps)
    return min(1.0, warmup, decay)


def updates_before_decay(steps: int, decay_steps: float) -> int:
    """The number of updates before the learning rate decays. Runs of different lengths share these updates, if they
    have the same warmup."""
    return math.floor(steps - decay_steps)
