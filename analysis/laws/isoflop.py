"""The best N of each budget from the runs of that budget alone, and the loss it reaches.

Approach 2 of Hoffmann et al. 2022 (arXiv 2203.15556, section 3.2). A parabola in log N is only locally right: on wide,
off-center or asymmetric sizes its vertex is biased, and with three sizes it has all of their noise. So these optima are
shown, and sizes are planned by all budgets together (`analysis.forecast.joint_isoflop`).
Not here: noise, intervals and extrapolation (`analysis.forecast`).
"""

from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import NDArray

from analysis.laws.budgets import compute_budgets
from analysis.laws.forms import C_AXIS, D_AXIS, N_AXIS
from analysis.laws.power import PowerLaw, fit_power
from analysis.tables.arrays import Array
from analysis.tables.table import Table
from scaling.core.errors import UserError


@dataclass(frozen=True, eq=False)
class IsoflopRuns:
    """Runs that come in compute budgets; arrays of shape (runs,)."""

    run_ids: NDArray[np.str_]
    n_params: Array
    num_tokens: Array
    train_flops: Array
    flop_budgets: Array
    metric: Array

    def __len__(self) -> int:
        return len(self.metric)

    def take(self, rows: NDArray[np.bool_] | NDArray[np.intp]) -> "IsoflopRuns":
        return IsoflopRuns(*(getattr(self, field.name)[rows] for field in fields(self)))


@dataclass(frozen=True)
class BudgetOptimum:
    """The best size at one budget: a parabola's vertex, or the best run where the parabola is refused."""

    flop_budget: float
    n_params: float
    num_tokens: float
    val_loss: float
    refusal: str
    """Why the best run stands in for a vertex; empty where the vertex is used."""
    parabola: tuple[float, float, float]
    """Coefficients of (log N)^2, log N and 1 in the loss; NaN where there are too few sizes."""
    span: tuple[float, float]
    """Smallest and largest N of the budget's runs."""


@dataclass(frozen=True)
class Frontier:
    """The optima of at least two budgets, each from its own runs."""

    optima: tuple[BudgetOptimum, ...]
    flops_per_token: PowerLaw
    """Training FLOPs per token as a power of N."""


def isoflop_runs(table: Table, metric: str = "loss") -> IsoflopRuns:
    """The runs of a table with their budgets, in the order of budget, size and run id, so that the same runs give the
    same result in whatever order they are listed.

    Raises UserError where a column is missing, or a run has no positive number in one.
    """
    budgets = require_budgets(table)
    columns = {name: table.axis(name) for name in (N_AXIS, D_AXIS, C_AXIS)}
    columns |= {"flop_budget": budgets, metric: table.axis(metric)}
    run_ids = np.array(table.run_ids, dtype=np.str_)
    for name, values in columns.items():
        bad = run_ids[~(np.isfinite(values) & (values > 0))]
        if len(bad):
            raise UserError(f"run {bad[0]} has no positive {name}; leave it out")
    order = np.lexsort((run_ids, columns[N_AXIS], budgets))
    return IsoflopRuns(run_ids, *columns.values()).take(order)


def require_budgets(table: Table) -> Array:
    """(runs,), the compute budget of every run. Raises UserError where the runs come in none."""
    budgets = compute_budgets(table)
    if budgets is None:
        raise UserError(
            f"{table.path}: the runs come in no compute budgets: there is no column flop_budget, and there are no two "
            "groups of three runs with nearly equal train_flops"
        )
    return budgets


def fit_frontier(runs: IsoflopRuns) -> Frontier:
    """The optimum of each budget.

    FLOPs per token at a size that was not run come from a straight line of log(train_flops / num_tokens) in log N:
    attention makes the exponent a little less than 1 for small models.

    Raises UserError where there are fewer than two budgets.
    """
    budgets = np.unique(runs.flop_budgets)
    if len(budgets) < 2:
        raise UserError(f"{len(budgets)} compute budgets give no frontier; train at two or more")
    flops_per_token = fit_power(runs.n_params, runs.train_flops / runs.num_tokens)
    groups = [runs.take(runs.flop_budgets == budget) for budget in budgets]
    return Frontier(tuple(_optimum(group, flops_per_token) for group in groups), flops_per_token)


def _optimum(group: IsoflopRuns, flops_per_token: PowerLaw) -> BudgetOptimum:
    """The best size of the runs of one budget."""
    log_n, losses = np.log(group.n_params), group.metric
    budget = float(group.flop_budgets[0])
    parabola = (np.nan, np.nan, np.nan)
    if len(np.unique(log_n)) >= 3:
        middle = log_n.mean()  # centered, so that the three columns of the problem are nearly orthogonal
        curvature, slope, level = map(float, np.polyfit(log_n - middle, losses, 2))
        parabola = (curvature, slope - 2 * curvature * middle, level - slope * middle + curvature * middle**2)
    refusal = _refusal(log_n, parabola)
    if refusal:
        best_log_n, value = log_n[losses.argmin()], losses.min()
    else:
        best_log_n = -parabola[1] / (2 * parabola[0])
        value = level - slope**2 / (4 * curvature)
    n_params = float(np.exp(best_log_n))
    return BudgetOptimum(
        flop_budget=budget,
        n_params=n_params,
        num_tokens=budget / float(flops_per_token(n_params)),
        val_loss=float(value),
        refusal=refusal,
        parabola=parabola,
        span=(float(group.n_params.min()), float(group.n_params.max())),
    )


def _refusal(log_n: Array, parabola: tuple[float, float, float]) -> str:
    """Why a parabola's vertex is no optimum; empty where it is one."""
    sizes = len(np.unique(log_n))
    if sizes < 3:
        return f"{sizes} sizes, a parabola needs 3"
    curvature, slope, level = parabola
    if curvature <= 0:
        return "the parabola opens downwards"
    vertex = -slope / (2 * curvature)
    if vertex <= log_n.min():
        return "the minimum lies below the sizes tried; add a smaller one"
    if vertex >= log_n.max():
        return "the minimum lies above the sizes tried; add a larger one"
    return "" if level - slope**2 / (4 * curvature) > 0 else "the parabola's minimum is not positive"
