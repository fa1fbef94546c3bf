"""Runs grouped by compute."""

import numpy as np
from numpy.typing import NDArray

from analysis.laws.forms import C_AXIS
from analysis.tables.arrays import Array
from analysis.tables.table import Table

SAME_BUDGET = 0.10
"""Runs are of one budget where the compute of each differs by at most this share from its neighbor's."""
MOST_BUDGETS = 12
"""More groups than this are no isoFLOP design but scattered runs, which are divided into SHARES equal groups."""
SHARES = 6
LEAST_RUNS = 3
"""Runs of a budget that show which size is best there: a parabola has three coefficients."""


def budget_numbers(flops: Array) -> NDArray[np.intp]:
    """(points,), the number of each run's budget, from 0 for the smallest."""
    order = np.argsort(flops, kind="stable")
    steps = np.diff(np.log(flops[order])) > np.log1p(SAME_BUDGET)
    numbers = np.empty(len(flops), np.intp)
    numbers[order] = np.concatenate([[0], np.cumsum(steps)])
    spread = np.array([np.ptp(np.log(flops[numbers == i])) for i in range(numbers.max() + 1)])
    if numbers.max() < MOST_BUDGETS and (spread < 3 * SAME_BUDGET).all():
        return numbers
    edges = np.quantile(flops, np.linspace(0, 1, SHARES + 1)[1:-1])
    return np.searchsorted(edges, flops, side="right")


def is_isoflop(flops: Array) -> bool:
    """Whether there are two or more budgets of at least three runs of nearly equal compute each."""
    numbers = budget_numbers(flops)
    groups = [flops[numbers == i] for i in np.unique(numbers)]
    full = [group for group in groups if len(group) >= LEAST_RUNS and np.ptp(np.log(group)) < 3 * SAME_BUDGET]
    return len(full) >= 2


def compute_budgets(table: Table) -> Array | None:
    """(runs,), the compute budget of every run: the column flop_budget, or the mean compute of its group of runs with
    nearly equal train_flops. None where the runs come in no budgets."""
    if "flop_budget" in table.runs:
        return table.axis("flop_budget")
    if C_AXIS not in table.runs:
        return None
    flops = table.axis(C_AXIS)
    if not (np.isfinite(flops) & (flops > 0)).all() or not is_isoflop(flops):
        return None
    numbers = budget_numbers(flops)
    means = np.array([np.exp(np.log(flops[numbers == i]).mean()) for i in range(numbers.max() + 1)])
    return means[numbers]


def has_budgets(table: Table) -> bool:
    """Whether the runs come in two or more compute budgets of at least three runs each."""
    budgets = compute_budgets(table)
    if budgets is None:
        return False
    _, counts = np.unique(budgets[np.isfinite(budgets)], return_counts=True)
    return int((counts >= LEAST_RUNS).sum()) >= 2
