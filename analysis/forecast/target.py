"""The run that an estimate is of: what a compute buys, or what compute a loss takes, both by
`analysis.forecast.forecast`."""

from dataclasses import dataclass

import numpy as np
import pandas as pd

from analysis.forecast.forecast import forecast
from analysis.laws.varpro import Array
from scaling.core.errors import UserError

REACH = 100
"""How far beyond the largest budget a loss is looked for."""
CALIBRATED = 8
"""How far beyond it the forecast's intervals were calibrated: docs/forecast.md."""


@dataclass(frozen=True)
class Target:
    """Training compute and best size, each with what the forecast allows nine times in ten."""

    flops: float
    flops_low: float
    flops_high: float
    n_params: float
    n_params_low: float
    n_params_high: float
    notes: tuple[str, ...]
    """What a reader must know who relies on it."""


def target_of_compute(table: pd.DataFrame, flops: float) -> Target:
    """The best run at this many training FLOPs, itself certain; table: `scaling.core.records.training_table`.

    Raises UserError where too few runs have less compute for a forecast.
    """
    least = float(table["flop_budget"].min())
    if flops <= least:
        raise UserError(f"no run has less compute than {flops:.3g} FLOPs; give more than {least:.3g}")
    found = forecast(table, flops)
    notes = _beyond(flops, max(optimum.flop_budget for optimum in found.optima))
    return Target(flops, flops, flops, found.n_params, found.n_params_low, found.n_params_high, notes)


def target_of_loss(table: pd.DataFrame, loss: float) -> Target:
    """The cheapest run with this validation loss: where the forecast and both sides of its interval come down to it.

    Raises UserError where a run has that loss already, or none within REACH of the largest budget is foretold to.
    """
    reached = table[table["val_loss"] <= loss]
    if len(reached):
        cheapest = reached.sort_values("train_flops").iloc[0]
        raise UserError(
            f"run {cheapest['run_id']} reached {cheapest['val_loss']:.4f} with {cheapest['train_flops']:.3g} FLOPs; "
            "give a lower loss"
        )
    largest = float(table["flop_budget"].max())
    found = forecast(table, REACH * largest)
    flops, middle = np.array(found.band.flops), np.array(found.band.val_loss)
    expected = _first_at(flops, middle, loss)
    if expected is None:
        raise UserError(
            f"a loss of {loss:g} is foretold for no run with up to {REACH} times the largest budget "
            f"({REACH * largest:.3g} FLOPs), only {middle.min():.4f}; give a higher one"
        )
    lucky, unlucky = (_first_at(flops, np.array(curve), loss) for curve in (found.band.low, found.band.high))
    assert lucky is not None, "the lower side of an interval lies below its middle"
    notes = _beyond(expected, largest)
    if unlucky is None:
        unlucky = float(flops[-1])
        notes += (f"unlucky runs need more than the {unlucky:.3g} FLOPs at which the forecast ends: no upper limit",)
    # A forecast looks at no run at or above its target, and this one is to see them all.
    near = forecast(table, max(expected, 1.01 * largest))
    back = (expected / near.target_flops) ** near.a
    return Target(
        flops=expected,
        flops_low=lucky,
        flops_high=unlucky,
        n_params=back * near.n_params,
        n_params_low=back * near.n_params_low,
        n_params_high=back * near.n_params_high,
        notes=notes,
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


def _beyond(flops: float, largest: float) -> tuple[str, ...]:
    if flops <= CALIBRATED * largest * 1.001:
        return ()
    return (f"{flops / largest:,.0f} times the largest budget; the forecast was calibrated up to {CALIBRATED} times",)
