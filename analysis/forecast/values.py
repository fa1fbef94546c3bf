"""What a forecast answers, as values. Computed by `analysis.forecast.by_law` and `analysis.forecast.by_forms`."""

from dataclasses import dataclass

import numpy as np

from analysis.tables.arrays import Array

LEVEL = 0.90
"""Probability with which a number lies in its interval."""
TAILS = ((1 - LEVEL) / 2, (1 + LEVEL) / 2)


@dataclass(frozen=True)
class ValueInterval:
    """A number with its 90 % interval; an end that is not known is None."""

    value: float
    low: float | None
    high: float | None


@dataclass(frozen=True)
class OptimalRun:
    """The best run at a training compute."""

    train_flops: float
    n_params: ValueInterval
    num_tokens: float
    """Training tokens at `n_params.value`."""
    metric: ValueInterval
    """The metric of a new run of that size; its interval includes the noise of one run."""
    reach: float
    """The compute over the largest compute of the runs."""
    notes: tuple[str, ...] = ()
    """What a reader must know before relying on the numbers."""


@dataclass(frozen=True)
class ComputeForLoss:
    """The least training compute at which a loss, or another metric, is reached."""

    target: float
    """The value of the metric to reach."""
    train_flops: ValueInterval
    """The upper end is None where it lies beyond all compute at which the target was looked for."""
    n_params: ValueInterval
    """The best size at `train_flops.value`."""
    num_tokens: float
    reach: float
    """The compute over the largest compute of the runs."""
    searched_flops: float
    """The largest compute at which the target was looked for."""
    notes: tuple[str, ...] = ()
    """What a reader must know before relying on the numbers."""


def value_interval(value: float, draws: Array) -> ValueInterval:
    """A value with the quantiles of its draws, (draws,). An end is None where it is infinite or undefined."""
    undefined = np.isnan(draws)
    with np.errstate(invalid="ignore"):  # between two infinite draws a quantile is undefined, hence not known
        low = float(np.quantile(np.where(undefined, -np.inf, draws), TAILS[0]))
        high = float(np.quantile(np.where(undefined, np.inf, draws), TAILS[1]))
    return ValueInterval(float(value), low if np.isfinite(low) else None, high if np.isfinite(high) else None)
