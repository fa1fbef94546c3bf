"""Answers by one fitted law and its bootstrap: the optimal run at a compute, and the compute for a loss.

The intervals know the noise of the runs and not the error of the law's form. Where runs come in budgets, several forms
together know both (`analysis.forecast.by_forms`).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from analysis.forecast.values import TAILS, ComputeForLoss, OptimalRun, ValueInterval, value_interval
from analysis.laws.bootstrap import Draws
from analysis.laws.fit import Fit
from analysis.laws.forms import C_AXIS, D_AXIS, N_AXIS, U_AXIS, Form
from analysis.laws.optimal_split import best_metric, best_split, flops_per_token
from analysis.laws.power import PowerLaw
from analysis.tables.arrays import Array
from scaling.core.errors import UserError

SEARCHED = 1e12
"""A target is looked for up to this many times the largest compute of the runs."""


@dataclass(frozen=True, eq=False)
class ByLaw:
    """A law of N and D with the fits to copies of its runs."""

    draws: Draws

    def optimal_run(self, flops: float) -> OptimalRun:
        """The best run at a compute. Raises UserError where the law is underdetermined or has no N and D."""
        fit = _determined(self.draws.fit)
        per_token = flops_per_token(fit)
        N, D = best_split(fit.form, fit.params, flops, per_token)
        size, size_notes = self._size(flops, per_token)
        axes = {N_AXIS: np.array([N]), D_AXIS: np.array([D]), U_AXIS: np.array([D])}
        return OptimalRun(
            train_flops=flops,
            n_params=size,
            num_tokens=float(D),
            metric=value_interval(float(fit.predict(axes)[0]), self.draws.new_runs(axes)[:, 0]),
            reach=flops / float(fit.points.axes[C_AXIS].max()),
            notes=_notes(fit) + size_notes,
        )

    def compute_for_loss(self, target: float) -> ComputeForLoss:
        """The compute that a target takes. Raises UserError where the law never reaches it, or is underdetermined."""
        fit = _determined(self.draws.fit)
        per_token = flops_per_token(fit)
        largest = float(fit.points.axes[C_AXIS].max())
        flops = float(_cheapest(fit.form, fit.params, target, per_token, largest))
        if not np.isfinite(flops):
            floor = f"; its floor E is {fit.params['E']:.4g}" if "E" in fit.params else ""
            raise UserError(f"the law never reaches {target:g} within {SEARCHED:g} times the largest compute{floor}")
        drawn = _cheapest(fit.form, self.draws.params, target, per_token, largest)
        low, high = np.quantile(drawn, TAILS, method="lower")
        size, size_notes = self._size(flops, per_token)
        share_unreached = float(np.isinf(drawn).mean())
        return ComputeForLoss(
            target=target,
            train_flops=ValueInterval(
                flops, float(low) if np.isfinite(low) else None, float(high) if np.isfinite(high) else None
            ),
            n_params=size,
            num_tokens=float(best_split(fit.form, fit.params, flops, per_token)[1]),
            reach=flops / largest,
            searched_flops=SEARCHED * largest,
            notes=((f"{share_unreached:.0%} of the bootstrap's laws never reach it",) if share_unreached else ())
            + _notes(fit)
            + size_notes,
        )

    def _size(self, flops: float, per_token: PowerLaw) -> tuple[ValueInterval, tuple[str, ...]]:
        """The best N at a compute, and a note where some draws have none: their N lies below or above all sizes."""
        fit = self.draws.fit
        drawn, _ = best_split(fit.form, self.draws.params, flops, per_token)
        has_none = ~(np.isfinite(drawn) & (drawn > 0))
        size = value_interval(
            float(best_split(fit.form, fit.params, flops, per_token)[0]), np.where(drawn == 0, -np.inf, drawn)
        )
        if not has_none.any():
            return size, ()
        return size, (f"{has_none.mean():.1%} of the bootstrap's laws have no best size: their term of N or D is 0",)


def _cheapest(form: Form, params: Mapping[str, Any], target: float, per_token: PowerLaw, largest: float) -> Array:
    """Bisection in log C, because the frontier only falls; infinite where it never reaches the target."""
    shape = np.shape(params[form.names[0]])
    low, high = np.full(shape, np.log(largest / SEARCHED)), np.full(shape, np.log(largest * SEARCHED))
    reached = best_metric(form, params, np.exp(high), per_token) <= target
    for _ in range(80):
        middle = (low + high) / 2
        reaches_target = best_metric(form, params, np.exp(middle), per_token) <= target
        low, high = np.where(reaches_target, low, middle), np.where(reaches_target, middle, high)
    return np.where(reached, np.exp(high), np.inf)


def _determined(fit: Fit) -> Fit:
    if fit.status == "underdetermined":
        raise UserError(f"the law is underdetermined, so it predicts nothing: {fit.reason}; add runs")
    return fit


def _notes(fit: Fit) -> tuple[str, ...]:
    return (fit.reason,) if fit.reason else ()
