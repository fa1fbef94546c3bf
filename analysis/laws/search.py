"""All local optima of a form on a set of points, and the optima of many copies of them from a known one.

A vector of parameters here holds logarithms of coefficients in centered units, exponents, the outer power and the
half-life of repetition, in the order of `Form.names`. The half-life bends an axis, so it is not among the minimizer's
parameters: it is profiled, that is, searched along a line with all other parameters at their best.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from analysis.laws.forms import D_AXIS, U_AXIS, Form
from analysis.laws.newton import Design, Objective, minimize
from analysis.laws.points import Points
from analysis.laws.repeats import HALF_LIVES, effective_tokens
from analysis.laws.starts import EXPONENTS, OUTER, Axes, center, grid_starts
from analysis.tables.arrays import Array

SMALLEST = 20.0
"""Logarithm of the metric over the smallest coefficient: e^-20 = 2e-9 of the metric counts as 0."""
HALF_LIFE_GRID = np.geomspace(*HALF_LIVES, 40)


@dataclass(frozen=True)
class LocalOptimum:
    """Where a descent ended."""

    theta: Array
    """(parameters,)"""
    value: float
    """The objective."""
    converged: bool


@dataclass(frozen=True, eq=False)
class Problem:
    """A form on a set of points under an objective."""

    form: Form
    points: Points
    objective: Objective
    units: Mapping[str, float] | None = None
    """Axis -> logarithm of its unit; by default the mean of the points."""

    @cached_property
    def metric(self) -> Array:
        """(points,), the metric or its logarithm, as the objective takes it."""
        return self.points.metric if self.objective.raw else np.log(self.points.metric)

    @cached_property
    def means(self) -> Mapping[str, float]:
        """Logarithms of the units of the axes; those of D hold for effective tokens too."""
        if self.units is not None:
            return self.units
        return center({name: self.points.axes[name] for name in self.form.axes if name != U_AXIS}).means

    def axes(self, half_life: float | None) -> Axes:
        """The axes in centered units at a half-life of repetition."""
        values = {name: self.points.axes[name] for name in self.means}
        if half_life is not None:
            values[D_AXIS] = effective_tokens(values[D_AXIS], self.points.axes[U_AXIS], half_life)
        return Axes({name: np.log(axis) - self.means[name] for name, axis in values.items()}, self.means)

    def design(self, half_life: float | None = None) -> Design:
        """The problem as the minimizer takes it, in all parameters but the half-life."""
        form, axes = self.form, self.axes(half_life)
        names = [name for name in form.names if name != form.repeats]
        count = len(form.terms)
        slopes, offsets = np.zeros((count, len(self.points), len(names))), np.zeros((count, len(self.points)))
        for k, term in enumerate(form.terms):
            slopes[k, :, k] = 1.0
            power = (1.0 if term.rising else -1.0) * axes.logs[term.axis] if term.axis else 0.0
            if term.exponent:
                slopes[k, :, names.index(term.exponent)] = power
            else:
                offsets[k] = power
        low, high = np.full(len(names), EXPONENTS[0]), np.full(len(names), EXPONENTS[1])
        if form.outer:
            low[-1], high[-1] = OUTER
        low[:count], high[:count] = -np.inf if form.outer else self.smallest, np.inf
        for name, value in form.fixed:
            low[names.index(name)] = high[names.index(name)] = value if name in form.exponents else np.log(value)
        return Design(slopes, offsets, names.index(form.outer) if form.outer else None, low, high)

    @property
    def smallest(self) -> float:
        """The logarithm of what counts as 0 among coefficients."""
        return float(np.log(self.points.metric).mean()) - SMALLEST

    def optima(self) -> list[LocalOptimum]:
        """The local optima, lowest first."""
        if not self.form.repeats:
            return self._from(self._starts(None), None)
        profile = [self._from(self._starts(half_life), half_life)[0] for half_life in HALF_LIFE_GRID]
        values = np.pad([optimum.value for optimum in profile], 1, constant_values=np.inf)
        lows = [i for i in range(len(profile)) if values[i + 1] <= min(values[i], values[i + 2])]
        return sorted((self._refined(profile, i) for i in lows), key=lambda optimum: optimum.value)

    def copies(self, metric: Array, weights: Array, starts: Array) -> tuple[Array, Array]:
        """The optima (copies, parameters) and objectives (copies,) of copies of the points.

        metric: (copies, points), in natural units. weights: (copies, points). starts: (starts, parameters), from each
        of which every copy descends; the lowest end is kept. The half-life is taken from a grid.
        """
        y = metric if self.objective.raw else np.log(metric)
        ends = [self._descend(y, weights, start) for start in starts]
        thetas, values = (np.stack(parts) for parts in zip(*ends, strict=True))
        best = values.argmin(axis=0)
        copy = np.arange(len(y))
        return thetas[best, copy], values[best, copy]

    def _descend(self, y: Array, weights: Array, start: Array) -> tuple[Array, Array]:
        if not self.form.repeats:
            minimum = minimize(self.design(), self.objective, y, weights, np.tile(start, (len(y), 1)))
            return minimum.theta, minimum.value
        theta = np.tile(start[:-1], (len(y), 1))
        best, value = np.tile(start, (len(y), 1)), np.full(len(y), np.inf)
        for half_life in HALF_LIFE_GRID:
            minimum = minimize(self.design(half_life), self.objective, y, weights, theta)
            improved = minimum.value < value
            value = np.where(improved, minimum.value, value)
            best[improved] = np.column_stack([minimum.theta, np.full(len(y), half_life)])[improved]
        return best, value

    def _starts(self, half_life: float | None) -> Array:
        return grid_starts(self.form, self.axes(half_life), self.points.metric, self.points.weights)

    def _from(self, starts: Array, half_life: float | None) -> list[LocalOptimum]:
        copies = (len(starts), len(self.points))
        y, weights = np.broadcast_to(self.metric, copies), np.broadcast_to(self.points.weights, copies)
        minimum = minimize(self.design(half_life), self.objective, y, weights, starts)
        half_lives = [] if half_life is None else [half_life]
        ends = zip(minimum.theta, minimum.value, minimum.converged, strict=True)
        optima = [
            LocalOptimum(np.append(theta, half_lives), float(value), bool(converged))
            for theta, value, converged in ends
        ]
        return sorted(optima, key=lambda optimum: optimum.value)

    def _refined(self, profile: list[LocalOptimum], i: int) -> LocalOptimum:
        """The optimum between the neighbors of a grid point of the half-life."""
        from scipy.optimize import minimize_scalar  # a quarter of a second that no other form should wait for

        start = profile[i].theta[None, :-1]
        ends = np.log(HALF_LIFE_GRID[[max(i - 1, 0), min(i + 1, len(profile) - 1)]])
        inner = minimize_scalar(
            lambda log: self._from(start, float(np.exp(log)))[0].value,
            bounds=(float(ends[0]), float(ends[1])),
            method="bounded",
            options={"xatol": 1e-8},
        )
        refined = self._from(start, float(np.exp(inner.x)))[0]
        return min(refined, profile[i], key=lambda optimum: optimum.value)
