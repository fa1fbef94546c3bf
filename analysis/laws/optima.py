"""How the best N and D grow with compute, without a law of the loss: cross-checks of a and b.

Approach 1 (envelope): the runs that no cheaper run beats. Approach 2 (isoFLOP): the minimum of a parabola in log N
through the runs of each budget. Hoffmann et al. 2022 (arXiv 2203.15556), sections 3.1 and 3.2. The envelope of a
grid of runs jumps from size to size: on noise-free public data it gives a = .469 where the truth is .514, the parabolas
.5146.
A parabola is itself biased where sizes span much or off-center, by up to 23 % of D on published surfaces.
"""

from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np

from analysis.laws.budgets import compute_budgets
from analysis.laws.forms import C_AXIS, D_AXIS, N_AXIS
from analysis.laws.isoflop import BudgetOptimum, IsoflopRuns, fit_frontier
from analysis.laws.points import points
from analysis.laws.power import fit_power
from analysis.tables.arrays import Array
from analysis.tables.table import Table
from scaling.core.errors import UserError

OptimaMethod = Literal["isoflop", "envelope"]
FLAT = 2.0
"""A curvature below this many standard errors cannot be told from a straight line."""


@dataclass(frozen=True)
class ComputeOptimum:
    """The best run, or the minimum, at one compute."""

    flops: float
    n_params: float
    num_tokens: float
    metric: float
    refusal: str
    """Why it is not used; empty where it is used."""


@dataclass(frozen=True)
class Allometry:
    """N ~ C^a and D ~ C^b through the optima that were not refused."""

    method: OptimaMethod
    a: float
    b: float
    optima: tuple[ComputeOptimum, ...]

    @property
    def used(self) -> int:
        return sum(not optimum.refusal for optimum in self.optima)

    def to_document(self) -> dict[str, Any]:
        """Plain JSON values."""
        return {"method": self.method, "a": self.a, "b": self.b, "n_optima": self.used,
                "optima": [asdict(optimum) for optimum in self.optima]}  # fmt: skip


def allometry(table: Table, method: OptimaMethod, metric: str = "loss") -> Allometry:
    """a and b by one of the methods.

    Raises UserError where a column is missing, runs are in no budgets, or fewer than two optima are left.
    """
    names = (N_AXIS, D_AXIS, C_AXIS)
    measured = points({name: table.axis(name) for name in names}, table.axis(metric), runs=table.run_ids)
    N, D, C = (measured.axes[name] for name in names)
    optima = _envelope(N, D, C, measured.metric) if method == "envelope" else _isoflop(table, N, D, C, measured.metric)
    usable = [optimum for optimum in optima if not optimum.refusal]
    if len({optimum.n_params for optimum in usable}) < 2:
        refusals = "; ".join(f"C {o.flops:.3g}: {o.refusal}" for o in optima if o.refusal) or "all of one size"
        raise UserError(f"{table.path}: {len(usable)} optima by {method} give no exponents ({refusals}); add runs")
    flops = [optimum.flops for optimum in usable]
    a = fit_power(flops, [optimum.n_params for optimum in usable]).exponent
    b = fit_power(flops, [optimum.num_tokens for optimum in usable]).exponent
    return Allometry(method, a, b, optima)


def _envelope(N: Array, D: Array, C: Array, metric: Array) -> tuple[ComputeOptimum, ...]:
    order = np.lexsort((metric, C))
    lowest = np.minimum.accumulate(np.r_[np.inf, metric[order][:-1]])
    return tuple(ComputeOptimum(C[i], N[i], D[i], metric[i], "") for i in order[metric[order] < lowest])


def _isoflop(table: Table, N: Array, D: Array, C: Array, metric: Array) -> tuple[ComputeOptimum, ...]:
    budgets = compute_budgets(table)
    if budgets is None:
        raise UserError(
            f"{table.path}: the runs are in no budgets of three or more with equal train_flops; use --method huber"
        )
    runs = IsoflopRuns(np.array(table.run_ids, dtype=np.str_), N, D, C, budgets, metric)
    optima = fit_frontier(runs).optima
    groups = [runs.take(budgets == optimum.flop_budget) for optimum in optima]
    scatter = _scatter(optima, groups)
    return tuple(
        ComputeOptimum(optimum.flop_budget, optimum.n_params, optimum.num_tokens, optimum.val_loss,
                       optimum.refusal or _reason_to_doubt(optimum, group, scatter))
        for optimum, group in zip(optima, groups, strict=True)
    )  # fmt: skip


def _scatter(optima: tuple[BudgetOptimum, ...], groups: list[IsoflopRuns]) -> float:
    """Standard deviation of the metric about the parabolas of all budgets; 0 where three sizes fix each."""
    squares, freedom = 0.0, 0
    for optimum, group in zip(optima, groups, strict=True):
        if np.isfinite(optimum.parabola[0]):
            residuals = group.metric - np.polyval(optimum.parabola, np.log(group.n_params))
            squares += float(np.square(residuals).sum())
            freedom += len(group) - 3
    return float(np.sqrt(squares / freedom)) if freedom > 0 else 0.0


def _reason_to_doubt(optimum: BudgetOptimum, group: IsoflopRuns, scatter: float) -> str:
    """Why a parabola's minimum inside the sizes is still no minimum; empty where it is one."""
    sizes = np.unique(group.n_params)
    if len(sizes) > 3 and not sizes[1] <= optimum.n_params <= sizes[-2]:
        return "edge minimum: it lies between the last two sizes tried; add one beyond"
    log_n = np.log(group.n_params) - np.log(group.n_params).mean()
    columns = np.column_stack([log_n**2, log_n, np.ones(len(log_n))])
    error = scatter * np.sqrt(np.linalg.inv(columns.T @ columns)[0, 0])
    if optimum.parabola[0] < FLAT * error:
        return "no curvature: the parabola cannot be told from a straight line; add sizes further apart"
    return ""
