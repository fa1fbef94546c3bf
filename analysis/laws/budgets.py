"""Runs grouped by compute."""

import numpy as np
from numpy.typing import NDArray

from analysis.laws.varpro import Array

SAME = 0.10
"""Runs whose compute differs by a smaller share from their neighbour's are of one budget."""
MOST = 12
"""More budgets than this are no design of isoFLOPs but scattered runs, grouped in SHARES of equal count."""
SHARES = 6


def budget_numbers(flops: Array) -> NDArray[np.intp]:
    """(points,), the number of each run's budget, from 0 for the smallest."""
    order = np.argsort(flops, kind="stable")
    steps = np.diff(np.log(flops[order])) > np.log1p(SAME)
    found = np.empty(len(flops), np.intp)
    found[order] = np.concatenate([[0], np.cumsum(steps)])
    spread = np.array([np.ptp(np.log(flops[found == i])) for i in range(found.max() + 1)])
    if found.max() < MOST and (spread < 3 * SAME).all():
        return found
    edges = np.quantile(flops, np.linspace(0, 1, SHARES + 1)[1:-1])
    return np.searchsorted(edges, flops, side="right")


def is_isoflop(flops: Array) -> bool:
    """Whether the runs come in budgets of at least three runs of nearly one compute each, two budgets or more."""
    found = budget_numbers(flops)
    groups = [flops[found == i] for i in np.unique(found)]
    full = [group for group in groups if len(group) >= 3 and np.ptp(np.log(group)) < 3 * SAME]
    return len(full) >= 2
