"""The isoFLOP parabolas of all budgets as one valley: which N is best at any C, for many noisy copies of the losses.

Every budget's parabola in log N shares its curvature, and their minima lie on one power law N = c C^a:

    log L = level(C) + curvature (log N - log c - a log C)^2

Three sizes fix one parabola and no more, so that a little noise turns it over or throws its minimum far outside; nine
runs of three budgets fix this valley with three degrees of freedom left. Even so they say little about `a`, which
therefore has a prior. Parabolas one by one are in `analysis.laws.isoflop`; what either costs is in
`benchmarks.forecast_calibration`.
"""

from dataclasses import dataclass

import numpy as np

from analysis.laws.varpro import Array

PRIOR, PRIOR_SPREAD = 0.5, 0.1
"""Mean and standard deviation of the exponent a before any run. Published: .41 for video (Yin et al. 2025), .57 for
images (Liang et al. 2024, arXiv 2410.08184), .49 and .62 for world models (Pearce et al. 2024, arXiv 2411.04434), .5
for text (Hoffmann et al. 2022)."""
EXPONENTS = np.linspace(0, 1, 101)
EDGES = {
    "": "",
    "down": "the parabolas of all budgets together open downwards",
    "below": "the valley's bottom lies below the sizes tried; add a smaller one",
    "above": "the valley's bottom lies above the sizes tried; add a larger one",
}


@dataclass(frozen=True)
class Valley:
    """One valley for each copy of the losses."""

    exponent: Array
    """a, (copies,)."""
    log_coefficient: Array
    """log c, (copies,)."""
    best_losses: Array
    """(copies, budgets), the loss at the bottom of each budget, budgets rising."""
    edge: tuple[str, ...]
    """For each copy why its valley has no bottom among the sizes tried; empty where it has one."""

    def n_params(self, flops: float) -> Array:
        """The best N at a budget, (copies,)."""
        return np.exp(self.log_coefficient + self.exponent * np.log(flops))


def fit_valleys(n_params: Array, flop_budgets: Array, losses: Array, noise: float, priors: Array) -> Valley:
    """Least squares on log losses plus the prior, exact in all but `a`, which is searched on a grid.

    n_params, flop_budgets: (points,). losses: (copies, points). noise: relative standard deviation of one run.
    priors: (copies,), the mean of a's prior; drawn anew for each noisy copy, their fits are draws of the posterior.

    The bottom is sought among the sizes tried, all slid along C^a to one budget; a valley without one there, or one
    that is no valley, has its `edge` set and the nearest end, or the lowest run, for its bottom.
    """
    budgets, group = np.unique(flop_budgets, return_inverse=True)
    unit = np.log(flop_budgets).mean()
    log_n, log_c, y = np.log(n_params), np.log(flop_budgets) - unit, np.log(losses).T  # y: (points, copies)
    slid = log_n - EXPONENTS[:, None] * log_c  # (grid, points): log N brought to the mean budget
    middle = slid.mean(axis=1, keepdims=True)
    x = slid - middle
    levels = np.broadcast_to(np.eye(len(budgets))[group], (len(EXPONENTS), len(log_n), len(budgets)))
    columns = np.concatenate([levels, x[..., None], x[..., None] ** 2], axis=2)
    found = np.linalg.pinv(columns) @ y  # (grid, budgets + 2, copies)
    slope, curvature = found[:, -2], found[:, -1]
    misfit = np.square(y - columns @ found).sum(axis=1) / noise**2  # (grid, copies)
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
    vertex = np.where(upright, vertex, x[copy, _above_level(y, group).argmin(axis=0)])
    bottom = np.clip(vertex, low, high)
    level = found[chosen, :-2, copy]  # (copies, budgets)
    exponent = EXPONENTS[chosen]
    edges = np.select([~upright, vertex < low, vertex > high], ["down", "below", "above"], "")
    return Valley(
        exponent=exponent,
        log_coefficient=bottom + middle[chosen, 0] - exponent * unit,
        best_losses=np.exp(level + (slope * bottom + curvature * bottom**2)[:, None]),
        edge=tuple(EDGES[edge] for edge in edges),
    )


def _above_level(y: Array, group: np.ndarray) -> Array:
    """Log losses less the mean of their budget, (points, copies)."""
    members = np.eye(group.max() + 1)[group]
    return y - members @ (members.T @ y / members.sum(axis=0)[:, None])
