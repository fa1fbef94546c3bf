"""How the best N and D grow with compute, without a law of the loss: cross-checks of a and b.

Approach 1 (envelope): the runs that no cheaper run beats. Approach 2 (isoFLOP): the minimum of a parabola in log N
through the runs of each budget. Hoffmann et al. 2022 (arXiv 2203.15556), sections 3.1 and 3.2. The envelope of a
grid of runs jumps from size to size: on noise-free public data it gives a = .469 where the truth is .514, the parabolas
.5146.
A parabola is itself biased where sizes span much or off-centre, by up to 23 % of D on published surfaces.
"""

from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np
import pandas as pd

from analysis.laws.budgets import budget_numbers, is_isoflop
from analysis.laws.forms import C_AXIS, D_AXIS, N_AXIS
from analysis.laws.isoflop import Optimum, fit_frontier, fit_power
from analysis.laws.points import points
from analysis.laws.varpro import Array
from analysis.tables.table import Table
from scaling.core.errors import UserError

Method = Literal["isoflop", "envelope"]
FLAT = 2.0
"""A curvature below this many standard errors cannot be told from a straight line."""


@dataclass(frozen=True)
class Best:
    """The best run, or the minimum, at one compute."""

    flops: float
    n_params: float
    num_tokens: float
    metric: float
    refusal: str
    """Why it is not used; empty where it is."""


@dataclass(frozen=True)
class Allometry:
    """N ~ C^a and D ~ C^b through the optima that were not refused."""

    method: Method
    a: float
    b: float
    optima: tuple[Best, ...]

    @property
    def used(self) -> int:
        return sum(not optimum.refusal for optimum in self.optima)

    def to_document(self) -> dict[str, Any]:
        """Plain JSON values."""
        return {"method": self.method, "a": self.a, "b": self.b, "n_optima": self.used,
                "optima": [asdict(optimum) for optimum in self.optima]}  # fmt: skip


def allometry(table: Table, method: Method, metric: str = "loss") -> Allometry:
    """a and b by one of the methods.

    Raises UserError where a column is missing, runs are in no budgets, or fewer than two optima are left.
    """
    names = (N_AXIS, D_AXIS, C_AXIS)
    found = points({name: table.axis(name) for name in names}, table.axis(metric), runs=tuple(table.runs["run_id"]))
    N, D, C = (found.axes[name] for name in names)
    optima = _envelope(N, D, C, found.metric) if method == "envelope" else _isoflop(table, N, D, C, found.metric)
    used = [optimum for optimum in optima if not optimum.refusal]
    if len({optimum.n_params for optimum in used}) < 2:
        refusals = "; ".join(f"C {o.flops:.3g}: {o.refusal}" for o in optima if o.refusal) or "all of one size"
        raise UserError(f"{table.path}: {len(used)} optima by {method} give no exponents ({refusals}); add runs")
    flops = [optimum.flops for optimum in used]
    a = fit_power(flops, [optimum.n_params for optimum in used]).exponent
    b = fit_power(flops, [optimum.num_tokens for optimum in used]).exponent
    return Allometry(method, a, b, optima)


def _envelope(N: Array, D: Array, C: Array, metric: Array) -> tuple[Best, ...]:
    order = np.lexsort((metric, C))
    lowest = np.minimum.accumulate(np.r_[np.inf, metric[order][:-1]])
    return tuple(Best(C[i], N[i], D[i], metric[i], "") for i in order[metric[order] < lowest])


def _isoflop(table: Table, N: Array, D: Array, C: Array, metric: Array) -> tuple[Best, ...]:
    if "flop_budget" in table.runs:
        budgets = table.axis("flop_budget")
    elif is_isoflop(C):
        budget = budget_numbers(C)
        budgets = np.array([np.exp(np.log(C[budget == i]).mean()) for i in range(budget.max() + 1)])[budget]
    else:
        raise UserError(
            f"{table.path}: the runs are in no budgets of three or more with equal train_flops; use --method huber"
        )
    runs = pd.DataFrame({"run_id": table.runs["run_id"], N_AXIS: N, D_AXIS: D, C_AXIS: C, "flop_budget": budgets,
                         "val_loss": metric})  # fmt: skip
    optima = fit_frontier(runs).optima
    scatter = _scatter(runs, optima)
    return tuple(
        Best(optimum.flop_budget, optimum.n_params, optimum.num_tokens, optimum.val_loss,
             optimum.refusal or _doubt(optimum, runs[runs["flop_budget"] == optimum.flop_budget], scatter))
        for optimum in optima
    )  # fmt: skip


def _scatter(runs: pd.DataFrame, optima: tuple[Optimum, ...]) -> float:
    """Standard deviation of the metric about the parabolas of all budgets; 0 where three sizes fix each."""
    squares, freedom = 0.0, 0
    for optimum in optima:
        group = runs[runs["flop_budget"] == optimum.flop_budget]
        if np.isfinite(optimum.parabola[0]):
            squares += float(np.square(group["val_loss"] - np.polyval(optimum.parabola, np.log(group[N_AXIS]))).sum())
            freedom += len(group) - 3
    return float(np.sqrt(squares / freedom)) if freedom > 0 else 0.0


def _doubt(optimum: Optimum, group: pd.DataFrame, scatter: float) -> str:
    """Why a parabola's minimum inside the sizes is still none; empty where it is one."""
    sizes = np.sort(group[N_AXIS].unique())
    if len(sizes) > 3 and not sizes[1] <= optimum.n_params <= sizes[-2]:
        return "edge minimum: it lies between the last two sizes tried; add one beyond"
    log_n = np.log(group[N_AXIS]) - np.log(group[N_AXIS]).mean()
    columns = np.column_stack([log_n**2, log_n, np.ones(len(log_n))])
    error = scatter * np.sqrt(np.linalg.inv(columns.T @ columns)[0, 0])
    if optimum.parabola[0] < FLAT * error:
        return "no curvature: the parabola cannot be told from a straight line; add sizes further apart"
    return ""
