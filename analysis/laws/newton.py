"""The minimizer: damped Newton steps with exact derivatives, for many copies of one data set at once.

The objective is the sum over the runs of weight * Huber(residual), Hoffmann et al. 2022 (arXiv 2203.15556), appendix
D.3. Sum and not mean: objectives near 1e-5 already meet the default tolerances of quasi-Newton methods.

Parameters are logarithms of coefficients, exponents, and perhaps an outer power, so that log prediction is a
log-sum-exp of linear functions: its gradient is their mean under the softmax weights and its Hessian their covariance.
In linear coordinates the Hessian's condition number is about 3.5e11 on public data; steps here are scaled by the
Jacobian's columns besides. Copies differ in their metric (noise) or weights (resampling), never in their runs.
"""

from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from analysis.tables.arrays import Array

STEPS = 1000
"""The smooth part of a fit takes about ten; a Huber loss that passes through a few points exactly, some hundred."""
CHUNK = 128
"""Number of copies minimized together; more do not fit into the processor's cache."""
SHORTER = (0.3, 0.1, 0.03, 0.01)
"""Shares of a step."""
SETTLED = 1e-13
"""Relative decrease of the objective that a step must predict to be worth taking."""
MOST_DAMPING = 1e10
"""Damping at which no step decreases the objective any more in float64."""


@dataclass(frozen=True)
class Objective:
    """The function of a residual that is summed over the runs."""

    delta: float = 1e-3
    """Where the Huber loss turns from squared to absolute, in units of the residual; inf for least squares."""
    raw: bool = False
    """Residuals of the metric itself instead of its logarithm."""

    def huber(self, residuals: Array) -> Array:
        """r^2 / 2 up to delta, then delta (|r| - delta / 2)."""
        size = np.abs(residuals)
        inner = np.minimum(size, self.delta)
        return inner * (size - inner / 2)


@dataclass(frozen=True)
class Design:
    """The runs as the minimizer sees them."""

    slopes: Array
    """(terms, points, parameters): derivative of each term's logarithm, constant because it is linear."""
    offsets: Array
    """(terms, points): the part of each term's logarithm that no parameter moves."""
    outer: int | None
    """Index of the outer power among the parameters."""
    low: Array
    """(parameters,), bounds."""
    high: Array

    @cached_property
    def products(self) -> Array:
        """(terms * points, parameters^2): outer products of the slopes."""
        flat = self.slopes.reshape(-1, self.slopes.shape[2])
        return np.asarray(np.einsum("mp,mq->mpq", flat, flat).reshape(len(flat), -1))

    def terms(self, theta: Array) -> tuple[Array, Array, Array]:
        """Shares of the terms (copies, terms, points), their log-sum (copies, points), outer power (copies, 1)."""
        count, points, parameters = self.slopes.shape
        logs = (theta @ self.slopes.reshape(-1, parameters).T).reshape(len(theta), count, points) + self.offsets
        top = logs.max(axis=1)
        np.exp(logs - top[:, None], out=logs)
        total = logs.sum(axis=1)
        logs /= total[:, None]
        power = np.ones((len(theta), 1)) if self.outer is None else theta[:, [self.outer]]
        return logs, top + np.log(total), power

    def log_predictions(self, theta: Array) -> Array:
        """(copies, points)"""
        _, total, power = self.terms(theta)
        return power * total

    def jacobian(self, theta: Array) -> Array:
        """Derivatives of the log prediction, (copies, points, parameters)."""
        shares, total, power = self.terms(theta)
        return self._mean_slopes(shares, total, power)[1]

    def _mean_slopes(self, shares: Array, total: Array, power: Array) -> tuple[Array, Array]:
        mean = np.einsum("cki,kip->cip", shares, self.slopes)
        if self.outer is None:
            return mean, mean
        jacobian = power[..., None] * mean
        jacobian[..., self.outer] += total
        return mean, jacobian

    def derivatives(
        self, theta: Array, metric: Array, weights: Array, objective: Objective
    ) -> tuple[Array, Array, Array]:
        """Gradient (copies, parameters), Hessian (copies, parameters, parameters) and the Jacobian's column sizes."""
        shares, total, power = self.terms(theta)
        mean, jacobian = self._mean_slopes(shares, total, power)
        prediction = np.exp(power * total) if objective.raw else 1.0
        residuals = metric - (prediction if objective.raw else power * total)
        pull = weights * np.clip(residuals, -objective.delta, objective.delta) * prediction
        curvature = weights * (np.abs(residuals) <= objective.delta) * prediction**2
        if objective.raw:
            curvature = curvature - pull
        gradient = -np.einsum("ci,cip->cp", pull, jacobian)
        parameters = jacobian.shape[2]
        bend = (pull * power)[:, None] * shares
        hessian = -(bend.reshape(len(theta), -1) @ self.products).reshape(-1, parameters, parameters)
        if self.outer is None:
            hessian += _gram(jacobian, curvature + pull)
        else:
            hessian += _gram(jacobian, curvature) + _gram(mean, pull * power)
            cross = np.einsum("ci,cip->cp", pull, mean)
            hessian[:, self.outer] -= cross
            hessian[:, :, self.outer] -= cross
        sizes = np.sqrt(np.einsum("ci,cip->cp", weights * prediction**2, jacobian**2))
        return gradient, hessian, sizes


class Minimum(NamedTuple):
    """Where each copy's search ended."""

    theta: Array
    """(copies, parameters)"""
    value: Array
    """(copies,)"""
    converged: NDArray[np.bool_]
    """(copies,); False where STEPS did not suffice."""


def minimize(design: Design, objective: Objective, metric: Array, weights: Array, start: Array) -> Minimum:
    """Minimizes the objective of every copy from its start, within the bounds.

    metric: (copies, points), logarithms unless `objective.raw`. weights: (copies, points). start: (copies, parameters).
    """
    parts = [
        _minimize(design, objective, metric[i : i + CHUNK], weights[i : i + CHUNK], start[i : i + CHUNK])
        for i in range(0, len(start), CHUNK)
    ]
    return Minimum(*(np.concatenate(part) for part in zip(*parts, strict=True)))


def _minimize(design: Design, objective: Objective, metric: Array, weights: Array, start: Array) -> Minimum:
    theta = np.clip(start, design.low, design.high)
    best = _value(design, objective, theta, metric, weights)
    damping = np.full(len(theta), 1e-3)
    active = np.arange(len(theta))
    for _ in range(STEPS):
        y, w = metric[active], weights[active]
        gradient, hessian, sizes = design.derivatives(theta[active], y, w, objective)
        step, predicted_decrease = _step(design, theta[active], gradient, hessian, sizes, damping[active])
        before = best[active]
        moved, value, length = _line_search(design, objective, theta[active], step, predicted_decrease, before, y, w)
        improved = value < before
        theta[active[improved]] = moved[improved]
        best[active[improved]] = value[improved]
        damping[active] *= np.select([~improved, length == 1], [10.0, 0.1], 1.0)
        damping = np.maximum(damping, 1e-15)
        settled = predicted_decrease <= SETTLED * before
        active = active[~(settled | (damping[active] > MOST_DAMPING))]
        if not len(active):
            break
    converged = np.ones(len(theta), bool)
    converged[active] = False
    return Minimum(theta, best, converged)


def _line_search(
    design: Design,
    objective: Objective,
    theta: Array,
    step: Array,
    predicted_decrease: Array,
    before: Array,
    metric: Array,
    weights: Array,
) -> tuple[Array, Array, Array]:
    """The best point along each step, its value, and the share of the step that it is at.

    Where the whole step gives less than half of the predicted decrease, shorter ones are tried: a Huber loss bends
    wherever a residual crosses delta, so that its quadratic model holds only near by.
    """
    best = np.clip(theta + step, design.low, design.high)
    value = _value(design, objective, best, metric, weights)
    length = np.ones(len(theta))
    too_small = np.flatnonzero(before - value < predicted_decrease / 2)
    for share in SHORTER if len(too_small) else ():
        point = np.clip(theta[too_small] + share * step[too_small], design.low, design.high)
        shorter = _value(design, objective, point, metric[too_small], weights[too_small])
        lower = shorter < value[too_small]
        best[too_small[lower]], value[too_small[lower]], length[too_small[lower]] = point[lower], shorter[lower], share
    return best, value, length


def _value(design: Design, objective: Objective, theta: Array, metric: Array, weights: Array) -> Array:
    logs = design.log_predictions(theta)
    with np.errstate(over="ignore", invalid="ignore"):  # a step too far predicts infinity, and is not taken
        residuals = metric - (np.exp(logs) if objective.raw else logs)
        value = (weights * objective.huber(residuals)).sum(axis=1)
    return np.where(np.isnan(value), np.inf, value)


def _step(
    design: Design, theta: Array, gradient: Array, hessian: Array, sizes: Array, damping: Array
) -> tuple[Array, Array]:
    """The damped Newton step in units of the Jacobian's columns, and the decrease that its quadratic model predicts.

    Negative curvature is climbed down as if it were positive. Parameters that press against a bound stay.
    """
    at_bound = ((theta <= design.low) & (gradient > 0)) | ((theta >= design.high) & (gradient < 0))
    sizes = np.maximum(sizes, 1e-150)
    g = np.where(at_bound, 0.0, gradient / sizes)
    h = hessian / (sizes[:, :, None] * sizes[:, None])
    h[at_bound[:, :, None] | at_bound[:, None]] = 0.0
    values, vectors = np.linalg.eigh(h)
    values = np.abs(values)
    largest = np.maximum(values.max(axis=1, keepdims=True), 1e-300)
    projections = np.einsum("cpk,cp->ck", vectors, g)
    path = projections / (np.maximum(values, 1e-14 * largest) + damping[:, None] * largest)
    return -np.einsum("cpk,ck->cp", vectors, path) / sizes, (projections * path).sum(axis=1) / 2


def _gram(rows: Array, weights: Array) -> Array:
    """(copies, points, p) -> (copies, p, p), weighted."""
    return (rows * weights[..., None]).transpose(0, 2, 1) @ rows
