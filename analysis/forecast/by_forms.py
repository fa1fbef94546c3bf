"""Answers by several forms together, for runs in compute budgets: the optimal run, and the compute for a loss.

Forecasts the loss alone: the prior of N in C and the calibration (docs/forecast.md) are those of losses.
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from analysis.forecast.ensemble import COPIES
from analysis.forecast.forecast import forecast_table
from analysis.forecast.record import Forecast
from analysis.forecast.values import ComputeForLoss, OptimalRun, ValueInterval
from analysis.laws.isoflop import require_budgets
from analysis.tables.arrays import Array
from analysis.tables.table import Table
from scaling.core.errors import UserError

REACH = 100
"""A loss is looked for up to this many times the largest budget."""
CALIBRATED = 8
"""The intervals of the forecast were calibrated up to this many times the largest budget: docs/forecast.md."""


@dataclass(frozen=True, eq=False)
class ByForms:
    """Runs in compute budgets, from which forecasts are made with this many noisy copies."""

    table: Table
    seed: int = 0
    copies: int = COPIES

    @cached_property
    def largest(self) -> float:
        """The largest compute budget of the runs."""
        return float(np.nanmax(require_budgets(self.table)))

    def forecast(self, flops: float) -> Forecast:
        """The forecast for a compute, with all that it was made from."""
        smallest_budget = float(np.nanmin(require_budgets(self.table)))
        if flops <= smallest_budget:
            raise UserError(f"no run has less compute than {flops:.3g} FLOPs; give more than {smallest_budget:.3g}")
        return forecast_table(self.table, flops, seed=self.seed, copies=self.copies)

    def optimal_run(self, flops: float) -> OptimalRun:
        """The best run at a compute. Raises UserError where too few runs have less compute for a forecast."""
        return self.optimal_run_of(self.forecast(flops))

    def optimal_run_of(self, predicted: Forecast) -> OptimalRun:
        """The answer that a forecast on record gives."""
        flops = predicted.target_flops
        largest_used = max(optimum.flop_budget for optimum in predicted.optima)
        return OptimalRun(
            train_flops=flops,
            n_params=ValueInterval(predicted.n_params, predicted.n_params_low, predicted.n_params_high),
            num_tokens=predicted.num_tokens,
            metric=ValueInterval(predicted.val_loss, predicted.low, predicted.high),
            reach=flops / largest_used,
            notes=_beyond_calibration(flops, largest_used),
        )

    def compute_for_loss(self, loss: float) -> ComputeForLoss:
        """The cheapest run with this loss: where the forecast and both sides of its interval come down to it.

        Raises UserError where a run has that loss already, or the forecast does not reach it within REACH times the
        largest budget.
        """
        self._refuse_reached(loss)
        searched = REACH * self.largest
        curve = self.forecast(searched).band
        flops, middle = np.array(curve.flops), np.array(curve.val_loss)
        expected = _first_at(flops, middle, loss)
        if expected is None:
            raise UserError(
                f"no run with up to {REACH} times the largest budget ({searched:.3g} FLOPs) is predicted to reach a "
                f"loss of {loss:g}, only {middle.min():.4f}; give a higher one"
            )
        lucky, unlucky = (_first_at(flops, np.array(side), loss) for side in (curve.low, curve.high))
        assert lucky is not None, "the lower side of an interval lies below its middle"
        notes = _beyond_calibration(expected, self.largest)
        if unlucky is None:
            notes += (
                f"unlucky runs need more than the {searched:.3g} FLOPs at which the forecast ends: no upper limit",
            )
        # A forecast looks at no run at or above its target; this target lies above all runs, so that all are used.
        expected_forecast = self.forecast(max(expected, 1.01 * self.largest))
        to_expected = expected / expected_forecast.target_flops
        size = to_expected**expected_forecast.a
        return ComputeForLoss(
            target=loss,
            train_flops=ValueInterval(expected, lucky, unlucky),
            n_params=ValueInterval(
                size * expected_forecast.n_params,
                size * expected_forecast.n_params_low,
                size * expected_forecast.n_params_high,
            ),
            num_tokens=to_expected**expected_forecast.b * expected_forecast.num_tokens,
            reach=expected / self.largest,
            searched_flops=searched,
            notes=notes,
        )

    def _refuse_reached(self, loss: float) -> None:
        """Raises UserError where a run has reached the loss, which then needs no forecast."""
        runs = self.table.runs
        reached = runs[runs["loss"] <= loss]
        if len(reached):
            cheapest = reached.sort_values("train_flops").iloc[0]
            raise UserError(
                f"run {cheapest['run_id']} reached {cheapest['loss']:.4f} with {cheapest['train_flops']:.3g} FLOPs; "
                "give a lower loss"
            )


def _first_at(flops: Array, losses: Array, loss: float) -> float | None:
    """The compute at which a curve first comes down to a loss; None where it does not."""
    below = np.flatnonzero(losses <= loss)
    if not len(below):
        return None
    i = int(below[0])
    if i == 0:
        return float(flops[0])
    share = np.log(losses[i - 1] / loss) / np.log(losses[i - 1] / losses[i])
    return float(flops[i - 1] * (flops[i] / flops[i - 1]) ** share)


def _beyond_calibration(flops: float, largest: float) -> tuple[str, ...]:
    if flops <= CALIBRATED * largest * 1.001:
        return ()
    return (f"{flops / largest:,.0f} times the largest budget; the forecast was calibrated up to {CALIBRATED} times",)
