"""The noise of a run: how much training again with another seed changes the metric, apart from measuring it again.

Runs that differ only in their seed show both together; the standard error of each measurement is the second alone.
Measurement noise that all runs share (the same validation clips) moves the floor and is part of neither.
"""

from dataclasses import dataclass

import numpy as np

from analysis.tables.arrays import Array
from scaling.core.errors import UserError


@dataclass(frozen=True)
class Noise:
    """Relative standard deviations."""

    run: float
    """Noise of training again with another seed."""
    evaluation: float
    """Noise of measuring again, root mean square over the runs; 0 where no standard errors are given."""
    freedom: int
    """Number of repeated runs beyond the first of each kind, which says how well `run` is known."""


def run_noise(axes: dict[str, Array], metric: Array, standard_errors: Array | None) -> Noise:
    """The noise of runs that agree in every axis, pooled over the kinds of runs.

    axes, metric, standard_errors: (points,). Raises UserError where no kind of run was repeated.
    """
    kinds = np.unique(np.column_stack(list(axes.values())), axis=0, return_inverse=True)[1].ravel()
    logs = np.log(metric)
    counts = np.bincount(kinds)
    freedom = int((counts - 1).sum())
    if not freedom:
        raise UserError(
            "no run was repeated with another seed, so noise is unknown; "
            "repeat three sizes, or leave out --inverse-variance"
        )
    means = np.bincount(kinds, logs) / counts
    variance = float(np.square(logs - means[kinds]).sum() / freedom)
    measuring = np.zeros_like(metric) if standard_errors is None else standard_errors / metric
    evaluation = float(np.square(measuring[counts[kinds] > 1]).mean())
    return Noise(
        run=float(np.sqrt(max(variance - evaluation, 0.0))),
        evaluation=float(np.sqrt(np.square(measuring).mean())),
        freedom=freedom,
    )


def noise_weights(noise: Noise, metric: Array, standard_errors: Array | None) -> Array:
    """(points,), the inverse variances of log metric."""
    measuring = np.zeros_like(metric) if standard_errors is None else standard_errors / metric
    variance = noise.run**2 + measuring**2
    return np.asarray(1 / np.maximum(variance, 1e-3 * variance.mean() + 1e-300))
