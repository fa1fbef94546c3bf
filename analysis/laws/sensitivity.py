"""How far other choices move a fit: the same law under other outlier rules, Huber deltas and windows of compute."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from analysis.laws.fit import Fit, fit_law
from analysis.laws.forms import C_AXIS
from analysis.laws.newton import Objective
from scaling.core.errors import UserError

HIGHEST = (1, 2, 5, 10)
"""Numbers of highest values left out."""
DELTAS = (1e-4, 1e-3, 1e-2, np.inf)
WINDOWS = (0.25, 0.5)
"""Shares of the smallest compute left out."""


@dataclass(frozen=True)
class FitVariant:
    """The fit under one other choice."""

    choice: str
    """`outliers`, `delta` or `window`."""
    setting: str
    n_points: int
    params: dict[str, float]
    a: float | None
    status: str


def sensitivity(fit: Fit) -> tuple[FitVariant, ...]:
    """The variants of a fit for which there are enough runs. Windows need the compute of every run."""
    points = fit.points
    variants = []
    for choice, setting, rows, measure in _variants(fit):
        try:
            refit = fit_law(points.take(rows), fit.form, measure)
        except UserError:  # too few runs are left for this variant; the others can still be fitted
            continue
        variants.append(FitVariant(choice, setting, len(refit.points), refit.params, refit.a, refit.status))
    return tuple(variants)


def _variants(fit: Fit) -> Iterator[tuple[str, str, NDArray[np.bool_], Objective]]:
    points, measure = fit.points, fit.measure
    all_rows = np.ones(len(points), bool)
    ranks = np.argsort(np.argsort(-points.metric, kind="stable"))
    for count in HIGHEST:
        if count <= len(points) // 5:
            yield "outliers", f"without the {count} highest", ranks >= count, measure
    worst = np.argsort(np.argsort(-np.abs(fit.residuals), kind="stable"))
    yield "outliers", "without the largest residual", worst >= 1, measure
    if not measure.raw:
        for delta in DELTAS:
            if delta != measure.delta:
                yield "delta", f"{delta:g}", all_rows, Objective(delta)
    for share in WINDOWS if C_AXIS in points.axes else ():
        smallest_flops = float(np.quantile(points.axes[C_AXIS], share))
        yield "window", f"from {smallest_flops:.3g} FLOPs", points.axes[C_AXIS] >= smallest_flops, measure
