"""The best N of each budget from the runs of that budget alone, and what loss it reaches.

Approach 2 of Hoffmann et al. 2022 (arXiv 2203.15556, section 3.2). A parabola in log N is only locally right: on wide,
off-centre or asymmetric sizes its vertex is biased, and with three sizes it has all of their noise. So these optima are
shown, and sizes are planned by all budgets together (`analysis.forecast.joint_isoflop`).
Not here: noise, intervals and extrapolation (`analysis.forecast.forecast`).
"""

from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from analysis.laws.varpro import Array
from scaling.core.errors import UserError

COLUMNS = ("run_id", "n_params", "num_tokens", "train_flops", "flop_budget", "val_loss")


@dataclass(frozen=True)
class PowerLaw:
    """y = coefficient * x^exponent."""

    coefficient: float
    exponent: float

    def __call__(self, x: ArrayLike) -> Array:
        return self.coefficient * np.asarray(x, float) ** self.exponent


@dataclass(frozen=True)
class Optimum:
    """The best size at one budget: a parabola's vertex, or the best run where the parabola is refused."""

    flop_budget: float
    n_params: float
    num_tokens: float
    val_loss: float
    refusal: str
    """Why the best run stands in for a vertex; empty where the vertex is used."""
    parabola: tuple[float, float, float]
    """Coefficients of (log N)^2, log N and 1 in val_loss; NaN where there are too few sizes."""
    span: tuple[float, float]
    """Smallest and largest N of the group."""


@dataclass(frozen=True)
class Frontier:
    """The optima of at least two budgets, each from its own runs."""

    optima: tuple[Optimum, ...]
    flops_per_token: PowerLaw
    """Training FLOPs per token as a power of N."""


def fit_power(x: ArrayLike, y: ArrayLike, weights: ArrayLike | None = None) -> PowerLaw:
    """Least squares of log y on log x. A single distinct x gives proportionality, exponent 1.

    weights: inverse variances of log y; equal where there are none.
    """
    log_x, log_y = np.log(np.asarray(x, float)), np.log(np.asarray(y, float))
    share = np.ones_like(log_x) if weights is None else np.asarray(weights, float)
    share = share / share.sum()
    centred = log_x - share @ log_x
    spread = float(share @ centred**2)
    exponent = float(share * centred @ log_y) / spread if spread > 1e-12 / len(log_x) else 1.0
    return PowerLaw(float(np.exp(share @ log_y - exponent * (share @ log_x))), exponent)


def refuse(log_n: Array, parabola: tuple[float, float, float]) -> str:
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


def find_optimum(group: pd.DataFrame, flops_per_token: PowerLaw) -> Optimum:
    """The best size of the runs of one budget."""
    log_n, losses = np.log(group["n_params"].to_numpy(float)), group["val_loss"].to_numpy(float)
    budget = float(group["flop_budget"].iloc[0])
    parabola = (np.nan, np.nan, np.nan)
    if len(np.unique(log_n)) >= 3:
        middle = log_n.mean()  # centred, so that the three columns of the problem are nearly orthogonal
        curvature, slope, level = map(float, np.polyfit(log_n - middle, losses, 2))
        parabola = (curvature, slope - 2 * curvature * middle, level - slope * middle + curvature * middle**2)
    refusal = refuse(log_n, parabola)
    if refusal:
        at, value = log_n[losses.argmin()], losses.min()
    else:
        at = -parabola[1] / (2 * parabola[0])
        value = level - slope**2 / (4 * curvature)
    n_params = float(np.exp(at))
    return Optimum(
        flop_budget=budget,
        n_params=n_params,
        num_tokens=budget / float(flops_per_token(n_params)),
        val_loss=float(value),
        refusal=refusal,
        parabola=parabola,
        span=(float(group["n_params"].min()), float(group["n_params"].max())),
    )


def fit_frontier(table: pd.DataFrame) -> Frontier:
    """The optima of a table of runs (see `scaling.core.records.training_table`).

    FLOPs per token at a size that was not run come from a straight line of log(train_flops / num_tokens) in log N:
    attention makes the exponent a little less than 1 for small models.

    Raises UserError where a column is missing or there are fewer than two budgets.
    """
    check_table(table)
    if (budgets := table["flop_budget"].nunique()) < 2:
        raise UserError(f"{budgets} compute budgets give no frontier; train at two or more")
    flops_per_token = fit_power(table["n_params"], table["train_flops"] / table["num_tokens"])
    optima = tuple(find_optimum(group, flops_per_token) for _, group in table.groupby("flop_budget"))
    return Frontier(optima, flops_per_token)


def check_table(table: pd.DataFrame) -> None:
    """Raises UserError where a column is missing, or a run has no positive number in one."""
    require_columns(table)
    for name in COLUMNS[1:]:
        values = table[name].astype(float)
        bad = table["run_id"][~(np.isfinite(values) & (values > 0))]
        if len(bad):
            raise UserError(f"run {bad.iloc[0]} has no positive {name}; leave it out")


def require_columns(table: pd.DataFrame) -> None:
    """Raises UserError where a column is missing."""
    missing = [name for name in COLUMNS if name not in table]
    if missing:
        raise UserError(f"the table of runs has no column {', '.join(missing)}")
