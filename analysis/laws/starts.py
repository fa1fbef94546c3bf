"""Where a fit starts: variable projection over a grid of exponents (`analysis.laws.varpro`).

Once the exponents are fixed every form is linear, so its best non-negative coefficients are solved for at each grid
point, by relative squared error. The minimizer begins at the lowest local minima of that surface.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from math import prod

import numpy as np
from numpy.typing import NDArray

from analysis.laws.forms import Form
from analysis.laws.varpro import nonnegative_least_squares
from analysis.tables.arrays import Array

EXPONENTS = (0.01, 3.0)
"""Published exponents lie between .03 and .8; an optimum at an end of this range is reported as a bound."""
OUTER = (0.02, 3.0)
GRID = 32
"""Values of each exponent."""
STARTS = 4
MOST_POINTS = 256
"""Points that are enough to find a start; of more points, this many are used, spread evenly by rank of the metric."""
LEAST_SHARE = 1e-2
"""A coefficient that the projection sets to 0 starts at this share of the metric: at 0 its logarithm has no slope."""


@dataclass(frozen=True)
class Axes:
    """Logarithms of the axes of a form about their means: units that make the problem well conditioned."""

    logs: dict[str, Array]
    """Axis -> (points,)."""
    means: Mapping[str, float]


def center(axes: dict[str, Array]) -> Axes:
    """The axes in units of their geometric means."""
    logs = {name: np.log(values) for name, values in axes.items()}
    means = {name: float(values.mean()) for name, values in logs.items()}
    return Axes({name: values - means[name] for name, values in logs.items()}, means)


def grid_starts(form: Form, axes: Axes, metric: Array, weights: Array) -> Array:
    """(starts, parameters) at the lowest local minima, lowest first; coefficients as logarithms.

    metric: (points,), in natural units.
    """
    if len(metric) > MOST_POINTS:
        rows = np.argsort(metric, kind="stable")[np.linspace(0, len(metric) - 1, MOST_POINTS).astype(int)]
        axes = Axes({name: values[rows] for name, values in axes.logs.items()}, axes.means)
        metric, weights = metric[rows], weights[rows]
    names = [*form.exponents, *([form.outer] if form.outer else [])]
    ranges = {name: np.geomspace(*(OUTER if name == form.outer else EXPONENTS), GRID) for name in names}
    ranges |= {name: np.array([value]) for name, value in form.fixed if name in ranges}
    shape = tuple(len(ranges[name]) for name in names)
    index = np.indices(shape).reshape(len(names), -1)  # (exponents, grid)
    at = {name: ranges[name][index[i]] for i, name in enumerate(names)}
    tables = []
    for term in form.terms:
        sign = 1.0 if term.rising else -1.0
        if not term.axis:
            tables.append(np.ones((prod(shape), len(metric))))
        elif not term.exponent:
            tables.append(np.broadcast_to(np.exp(sign * axes.logs[term.axis]), (prod(shape), len(metric))))
        else:
            values = np.exp(sign * ranges[term.exponent][:, None] * axes.logs[term.axis])
            tables.append(values[index[names.index(term.exponent)]])
    columns = np.stack(tables, axis=1)  # (grid, terms, points)
    outer = at[form.outer][:, None] if form.outer else np.ones((1, 1))
    # d log L = outer * d log sum: relative errors of the sum count `outer` times.
    columns = columns / (metric ** (1 / outer))[:, None]
    importance = weights * outer**2  # (grid, points)
    # A fixed floor is left to the minimizer's bounds: exponents found with a free one are near enough to start from.
    surface, coefficients = _nonnegative(columns, importance)
    lows = _local_minima(surface.reshape(shape))[:STARTS]
    typical = float(np.exp(np.log(metric).mean()))
    lower_bound = LEAST_SHARE * typical ** (1 / (at[form.outer][lows, None] if form.outer else 1.0))
    return np.column_stack(
        [np.log(np.maximum(coefficients[lows], lower_bound)), *(at[name][lows] for name in names)],
    )


def _nonnegative(columns: Array, weights: Array) -> tuple[Array, Array]:
    """Weighted least squares of 1 on the columns with coefficients >= 0: the misfit and coefficients per grid point.

    By normal equations: for 240 runs they take 10 ms where an orthogonal decomposition of the columns takes 54, and
    half of float64's digits are plenty for a start.
    """
    grid, terms, _ = columns.shape
    weights = np.broadcast_to(weights, (grid, columns.shape[2]))
    weighted = columns * weights[:, None]
    gram = weighted @ columns.transpose(0, 2, 1)
    target = weighted.sum(axis=2)
    total = weights.sum(axis=1)

    def solve_normal_equations(subset: list[int]) -> tuple[Array, Array]:
        normal_matrix = gram[:, subset][:, :, subset]
        scale = np.sqrt(np.diagonal(normal_matrix, axis1=1, axis2=2))
        normal_matrix = normal_matrix / (scale[:, :, None] * scale[:, None]) + 1e-13 * np.eye(len(subset))
        coefficients = np.linalg.solve(normal_matrix, (target[:, subset] / scale)[..., None])[..., 0] / scale
        misfit = total - (coefficients * target[:, subset]).sum(axis=1)
        return coefficients[..., None], misfit[:, None]

    misfit, coefficients = nonnegative_least_squares((grid, 1, terms), solve_normal_equations)
    return misfit[:, 0], coefficients[:, 0]


def _local_minima(surface: Array) -> NDArray[np.intp]:
    """Flat indices of the points that have no lower neighbor, lowest first."""
    padded = np.pad(surface, 1, constant_values=np.inf)
    low = np.ones(surface.shape, bool)
    for offset in np.ndindex(*(3,) * surface.ndim):
        neighbors = padded[tuple(slice(o, o + n) for o, n in zip(offset, surface.shape, strict=True))]
        low &= surface <= neighbors
    flat = np.flatnonzero(low)
    return flat[np.argsort(surface.ravel()[flat], kind="stable")]
