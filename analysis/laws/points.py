"""What a law is fitted to: the axes, the metric and the weights of a set of runs, checked."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from analysis.laws.forms import D_AXIS, U_AXIS, Form
from analysis.tables.arrays import Array
from scaling.core.errors import UserError


@dataclass(frozen=True, eq=False)
class Points:
    """One row per measurement."""

    axes: dict[str, Array]
    """Axis -> (points,), positive."""
    metric: Array
    """(points,), positive; a loss or an FVD."""
    runs: tuple[str, ...]
    """The run that each point belongs to. Points of one run share its noise and are resampled together."""
    weights: Array
    """(points,), with the mean 1."""

    def __len__(self) -> int:
        return len(self.metric)

    def take(self, rows: NDArray[np.bool_] | NDArray[np.intp]) -> "Points":
        """The points at these rows; their weights keep their ratios and get the mean 1 again."""
        chosen = np.arange(len(self))[rows]
        weights = self.weights[chosen]
        return Points(
            {name: values[chosen] for name, values in self.axes.items()},
            self.metric[chosen],
            tuple(self.runs[i] for i in chosen),
            weights / weights.mean() if len(weights) else weights,
        )

    def weighted_by(self, axis: str, power: float) -> "Points":
        """The points with weights that also grow as axis^power, for extrapolation along that axis.

        No form holds from the first step on, and fitting its early error bends it at the end. On 92 public learning
        curves the power .5 lowers the median error of extrapolation in all four domains (docs/laws.md).
        """
        weights = self.weights * (self.axes[axis] / self.axes[axis].max()) ** power
        return Points(self.axes, self.metric, self.runs, weights / weights.mean())

    @property
    def clusters(self) -> NDArray[np.intp]:
        """(points,), the number of each point's run."""
        return np.unique(np.array(self.runs), return_inverse=True)[1]


def points(
    axes: Mapping[str, ArrayLike],
    metric: ArrayLike,
    *,
    runs: Sequence[str] | None = None,
    weights: ArrayLike | None = None,
    metric_name: str = "metric",
) -> Points:
    """Points from arrays of one length. Names of runs default to numbers from 1, weights to 1.

    metric_name: what messages call the metric.

    Raises UserError where a value is not a positive, finite number.
    """
    measured = np.asarray(metric, float)
    names = tuple(map(str, runs)) if runs is not None else tuple(str(i + 1) for i in range(len(measured)))
    columns = {name: np.asarray(values, float) for name, values in axes.items()}
    for name, values in {**columns, metric_name: measured}.items():
        assert len(values) == len(names), f"{len(values)} values of {name} for {len(names)} runs"
        bad = np.flatnonzero(~(np.isfinite(values) & (values > 0)))
        if len(bad):
            raise UserError(
                f"{name} is {values[bad[0]]:g} in run {names[bad[0]]}, but must be a positive number; leave it out"
            )
    weight = np.ones(len(measured)) if weights is None else np.asarray(weights, float)
    return Points(columns, measured, names, weight / weight.mean() if len(weight) else weight)


def check_points(fit_points: Points, form: Form) -> None:
    """Raises UserError where no law of this form can be fitted: too few points, or an axis that never varies."""
    needed = len(form.free) + 1
    if len(fit_points) < needed:
        raise UserError(
            f"{len(fit_points)} runs are too few for the {len(form.free)} parameters of {form.name}; "
            f"give at least {needed}, or choose a smaller law"
        )
    for name in form.axes:
        values = fit_points.axes[name]
        if name != U_AXIS and np.ptp(values) <= 1e-9 * values[0]:
            raise UserError(f"all runs have the same {name} ({values[0]:g}); add runs that vary it")
    if form.repeats and not (fit_points.axes[D_AXIS] > fit_points.axes[U_AXIS]).any():
        raise UserError(
            f"no run has more {D_AXIS} than {U_AXIS}, so the runs say nothing of repeated data; fit the law chinchilla"
        )
