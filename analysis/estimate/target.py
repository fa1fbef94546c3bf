"""The run that an estimate is of: the optimal run at a compute, or the cheapest run with a loss, forecast by forms."""

from dataclasses import dataclass

import pandas as pd

from analysis.forecast.by_forms import ByForms
from analysis.forecast.values import ValueInterval
from analysis.tables.read import table_of_runs


@dataclass(frozen=True)
class Target:
    """Training compute and best size, each with its 90 % interval."""

    flops: float
    flops_low: float
    flops_high: float
    n_params: float
    n_params_low: float
    n_params_high: float
    notes: tuple[str, ...]
    """What a reader must know before relying on the numbers."""


def target_of_compute(training_runs: pd.DataFrame, flops: float) -> Target:
    """The best run at this many training FLOPs, which themselves are certain.

    training_runs: `scaling.core.records.training_table`. Raises UserError where too few runs have less compute.
    """
    optimal = ByForms(table_of_runs(training_runs)).optimal_run(flops)
    return _target(ValueInterval(flops, flops, flops), optimal.n_params, flops, optimal.notes)


def target_of_loss(training_runs: pd.DataFrame, loss: float) -> Target:
    """The cheapest run with this validation loss. An upper end of its compute that is not known is taken as the largest
    compute at which the loss was looked for, and a note says so.

    Raises UserError where a run has that loss already, or the forecast does not reach it.
    """
    cheapest = ByForms(table_of_runs(training_runs)).compute_for_loss(loss)
    return _target(cheapest.train_flops, cheapest.n_params, cheapest.searched_flops, cheapest.notes)


def _target(flops: ValueInterval, size: ValueInterval, most_flops: float, notes: tuple[str, ...]) -> Target:
    high = most_flops if flops.high is None else flops.high
    return Target(flops.value, _known(flops.low), high, size.value, _known(size.low), _known(size.high), notes)


def _known(end: float | None) -> float:
    assert end is not None, "by forms only the upper end of the compute may be unknown"
    return end
