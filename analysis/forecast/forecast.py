"""The forecast of a larger run by several forms together, from the runs with less compute than its own.

The numbers come from `analysis.forecast.ensemble`; this file says which runs may be used, and fills the record.
"""

import numpy as np
import pandas as pd

from analysis.forecast.ensemble import COPIES, Ensemble, fit_ensemble
from analysis.forecast.record import (
    Backtest,
    Band,
    Forecast,
    FormPrediction,
    LawCheck,
    RecordedOptimum,
    verdict_fields,
)
from analysis.forecast.values import LEVEL
from analysis.laws.isoflop import IsoflopRuns, isoflop_runs, require_budgets
from analysis.tables.read import table_of_runs
from analysis.tables.table import Table
from scaling.core.errors import UserError


def forecast(training_runs: pd.DataFrame, target_flops: float, *, seed: int = 0) -> Forecast:
    """`forecast_table` of our own runs, as `scaling.core.records.training_table` gives them."""
    return forecast_table(table_of_runs(training_runs), target_flops, seed=seed)


def forecast_table(table: Table, target_flops: float, *, seed: int, copies: int = COPIES) -> Forecast:
    """Predicts the best run at `target_flops` from the runs with smaller budgets, and noisy copies of them.

    Runs at or above the target are never looked at; runs without a loss are left out by name.

    Raises UserError where fewer than two budgets or six usable runs lie below the target.
    """
    usable, refusals = _usable(table, target_flops)
    runs = isoflop_runs(usable)
    ensemble = fit_ensemble(runs, target_flops, seed=seed, copies=copies)
    backtest, backtest_refusals = _backtest(runs, ensemble, seed, copies)
    vae = usable.runs["vae_id"].iloc[0] if "vae_id" in usable.runs else None
    return Forecast(
        target_flops=target_flops,
        n_params=float(ensemble.n_params[-1]),
        n_params_low=ensemble.n_params_interval[0],
        n_params_high=ensemble.n_params_interval[1],
        num_tokens=float(ensemble.num_tokens[-1]),
        val_loss=float(ensemble.val_loss[-1]),
        low=float(ensemble.low[-1]),
        high=float(ensemble.high[-1]),
        level=LEVEL,
        noise=ensemble.noise,
        a=ensemble.exponent,
        b=1 - ensemble.exponent * ensemble.frontier.flops_per_token.exponent,
        forms=tuple(
            FormPrediction(
                name=member.form.name,
                formula=member.form.form.formula,
                val_loss=member.val_loss,
                low=member.low,
                high=member.high,
            )
            for member in ensemble.members
        ),
        law=LawCheck(
            **ensemble.law.params,
            status=ensemble.law.status,
            reason=ensemble.law.reason,
            n_params=ensemble.law_n_params,
        ),
        optima=tuple(
            RecordedOptimum(**{name: getattr(optimum, name) for name in RecordedOptimum.model_fields})
            for optimum in ensemble.frontier.optima
        ),
        band=Band(
            flops=tuple(ensemble.flops),
            n_params=tuple(ensemble.n_params),
            val_loss=tuple(ensemble.val_loss),
            low=tuple(ensemble.low),
            high=tuple(ensemble.high),
        ),
        backtest=backtest,
        refusals=(*refusals, *ensemble.refusals, *backtest_refusals),
        run_ids=tuple(map(str, runs.run_ids)),
        vae_id=vae if isinstance(vae, str) else None,
        seed=seed,
    )


def _usable(table: Table, target_flops: float) -> tuple[Table, list[str]]:
    """The runs below the target that have a loss, and refusals that name those that have none."""
    at_or_above = require_budgets(table) >= target_flops * (1 - 1e-6)  # a missing budget stays, and is refused by name
    below = table.without(at_or_above, "not below the target")
    no_loss = np.isnan(below.axis("loss"))
    refusals = [f"run {run_id} has no val_loss" for run_id in below.runs["run_id"][no_loss]]
    return below.without(no_loss, "no loss"), refusals


def _backtest(runs: IsoflopRuns, ensemble: Ensemble, seed: int, copies: int) -> tuple[Backtest | None, list[str]]:
    largest = ensemble.frontier.optima[-1]
    below = runs.take(runs.flop_budgets < largest.flop_budget)
    try:
        earlier = fit_ensemble(below, largest.flop_budget, seed=seed, copies=copies)
    except UserError as problem:
        return None, [f"backtest: {problem}"]
    predicted, low, high = (float(values[-1]) for values in (earlier.val_loss, earlier.low, earlier.high))
    verdict = verdict_fields(predicted, low, high, largest.val_loss)
    return Backtest(flop_budget=largest.flop_budget, **verdict), []
