"""The isoFLOP parabolas of all budgets fitted together: which N is best at any C, for many noisy copies of the losses.

Every budget's parabola in log N shares its curvature, and their minima lie on one power law N = c C^a:

    log L = level(C) + curvature (log N - log c - a log C)^2

Three sizes fix one parabola and no more, so that a little noise turns it over or throws its minimum far outside; nine
runs of three budgets fix this joint form with three degrees of freedom left. Even so they say little about `a`, which
therefore has a prior. Parabolas one by one are in `analysis.laws.isoflop`; what either costs is in
`benchmarks.forecast_calibration`.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from analysis.tables.arrays import Array

PRIOR, PRIOR_SPREAD = 0.5, 0.1
"""Mean and standard deviation of the exponent a before any run. Published: .41 for video (Yin et al. 2025), .57 for
images (Liang et al. 2024, arXiv 2410.08184), .49 and .62 for world models (Pearce et al. 2024, arXiv 2411.04434), .5
for text (Hoffmann et al. 2022)."""
EXPONENTS = np.linspace(0, 1, 101)
REFUSALS = {
    "": "",
    "down": "the parabolas of all budgets together open downwards",
    "below": "the minimum of all budgets together lies below the sizes tried; add a smaller one",
    "above": "the minimum of all budgets together lies above the sizes tried; add a larger one",
}


@dataclass(frozen=True)
class JointIsoflopFit:
    """One joint fit for each copy of the losses."""

    exponent: Array
    """a, (copies,)."""
    log_coefficient: Array
    """log c, (copies,)."""
    best_losses: Array
    """(copies, budgets), the loss at the minimum of each budget, budgets rising."""
    refusals: tuple[str, ...]
    """For each copy why its joint parabola has no minimum among the sizes tried; empty where it has one."""

    def n_params(self, flops: float) -> Array:
        """The best N at a budget, (copies,)."""
        return np.asarray(np.exp(self.log_coefficient + self.exponent * np.log(flops)))


def fit_joint_isoflop(
    n_params: Array, flop_budgets: Array, losses: Array, noise: float, priors: Array
) -> JointIsoflopFit:
    """Least squares on log losses plus the prior, exact in all but `a`, which is searched on a grid.

    n_params, flop_budgets: (points,). losses: (copies, points). noise: relative standard deviation of one run.
    priors: (copies,), the mean of a's prior; drawn anew for each noisy copy, their fits are draws of the posterior.

    The minimum is sought among the sizes tried, all moved along C^a to one budget. Where it is not among them, or the
    parabola opens downwards, the copy has a refusal, and the nearest end, or the lowest run, takes the minimum's place.
    """
    budgets, group = np.unique(flop_budgets, return_inverse=True)
    unit = np.log(flop_budgets).mean()
    log_n, log_c, y = np.log(n_params), np.log(flop_budgets) - unit, np.log(losses).T  # y: (points, copies)
    moved = log_n - EXPONENTS[:, None] * log_c  # (grid, points): log N brought to the mean budget
    middle = moved.mean(axis=1, keepdims=True)
    x = moved - middle
    levels = np.broadcast_to(np.eye(len(budgets))[group], (len(EXPONENTS), len(log_n), len(budgets)))
    columns = np.concatenate([levels, x[..., None], x[..., None] ** 2], axis=2)
    coefficients = np.linalg.pinv(columns) @ y  # (grid, budgets + 2, copies)
    slope, curvature = coefficients[:, -2], coefficients[:, -1]
    misfit = np.square(y - columns @ coefficients).sum(axis=1) / noise**2  # (grid, copies)
    surprise = ((EXPONENTS[:, None] - priors) / PRIOR_SPREAD) ** 2
    upright = curvature > 0
    # A copy that opens downwards at every exponent is ranked by the prior alone.
    objective = np.where(upright, misfit + surprise, np.where(upright.any(axis=0), np.inf, surprise))
    chosen = objective.argmin(axis=0)
    copy = np.arange(len(losses))
    slope, curvature, upright = slope[chosen, copy], curvature[chosen, copy], upright[chosen, copy]
    x = x[chosen]  # (copies, points)
    low, high = x.min(axis=1), x.max(axis=1)
    vertex = -slope / (2 * np.where(upright, curvature, np.inf))
    vertex = np.where(upright, vertex, x[copy, _above_budget_mean(y, group).argmin(axis=0)])
    minimum = np.clip(vertex, low, high)
    level = coefficients[chosen, :-2, copy]  # (copies, budgets)
    exponent = EXPONENTS[chosen]
    refusals = np.select([~upright, vertex < low, vertex > high], ["down", "below", "above"], "")
    return JointIsoflopFit(
        exponent=exponent,
        log_coefficient=minimum + middle[chosen, 0] - exponent * unit,
        best_losses=np.exp(level + (slope * minimum + curvature * minimum**2)[:, None]),
        refusals=tuple(REFUSALS[refusal] for refusal in refusals),
    )


def _above_budget_mean(y: Array, group: NDArray[np.intp]) -> Array:
    """Log losses less the mean of their budget, (points, copies)."""
    members = np.eye(group.max() + 1)[group]
    return np.asarray(y - members @ (members.T @ y / members.sum(axis=0)[:, None]))
