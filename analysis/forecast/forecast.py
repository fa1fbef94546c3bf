"""What a larger run will reach, written before it starts, and how that compares with what it then measured.

The numbers come from `analysis.forecast.ensemble`; this file says which runs may be looked at, and what is put on
record.
"""

from typing import Any

import pandas as pd

from analysis.forecast.ensemble import LEVEL, Ensemble, predict
from analysis.laws.isoflop import require_columns
from scaling.core.errors import UserError
from scaling.core.records import RunRecord
from scaling.core.specs import Spec

SAME_COMPUTE = 0.10
"""A run whose training FLOPs differ by a larger share from the forecast's is not the run that was forecast."""


class FormPrediction(Spec):
    """One form's prediction at the target; its interval has the sweep's noise but not the new run's."""

    name: str
    formula: str
    val_loss: float
    low: float
    high: float


class IsoFlopOptimum(Spec):
    """The best size at one budget of the sweep, from the runs of that budget alone."""

    flop_budget: float
    n_params: float
    num_tokens: float
    val_loss: float
    refusal: str
    """Why the best run stands in for the parabola's vertex; empty where it does not."""


class LawCheck(Spec):
    """The Chinchilla law, least squares on log losses, as a second opinion on the size."""

    E: float
    A: float
    B: float
    alpha: float
    beta: float
    status: str
    reason: str
    n_params: float | None
    """Its compute-optimal size at the target."""


class Band(Spec):
    """The forecast at every compute from the smallest budget to the target."""

    flops: tuple[float, ...]
    n_params: tuple[float, ...]
    """The best size, which the loss is of."""
    val_loss: tuple[float, ...]
    low: tuple[float, ...]
    high: tuple[float, ...]


class Verdict(Spec):
    """A prediction with its interval, and what was measured."""

    predicted: float
    low: float
    high: float
    measured: float
    relative_error: float
    """predicted / measured - 1: negative is too hopeful."""
    inside: bool


def _judge(predicted: float, low: float, high: float, measured: float) -> dict[str, Any]:
    """The fields of a Verdict."""
    numbers = {"predicted": predicted, "low": low, "high": high, "measured": measured}
    return {**numbers, "relative_error": predicted / measured - 1, "inside": low <= measured <= high}


class Backtest(Verdict):
    """The same method shown only the budgets below the largest, and asked for the isoFLOP optimum at the largest."""

    flop_budget: float


class Forecast(Spec):
    """A forecast as it is put on record. Everything follows from the runs named, the target and the seed."""

    target_flops: float
    n_params: float
    """Best size at the target: the bottom of the valley of all budgets (`analysis.forecast.joint_isoflop`)."""
    n_params_low: float
    n_params_high: float
    num_tokens: float
    """target_flops over the training FLOPs per token of that size."""
    val_loss: float
    """Median of the mixture of forms."""
    low: float
    high: float
    """A new run's loss lies in [low, high] with probability `level`, form error and run noise included."""
    level: float
    noise: float
    """Relative standard deviation of one run, as estimated from the sweep."""
    a: float
    """Exponent of the best N in C."""
    b: float
    """Exponent of the best D in C."""
    forms: tuple[FormPrediction, ...]
    law: LawCheck
    optima: tuple[IsoFlopOptimum, ...]
    band: Band
    backtest: Backtest | None
    """None where the smaller budgets hold too few runs; `refusals` says so."""
    refusals: tuple[str, ...]
    """What could not be used, and why."""
    run_ids: tuple[str, ...]
    vae_id: str | None
    seed: int

    def to_document(self) -> dict[str, Any]:
        """Plain JSON values; `Forecast.model_validate` reads them back."""
        return self.model_dump(mode="json")


class Comparison(Verdict):
    """A forecast against the run that it was of."""

    run_id: str
    train_flops: float
    n_params: float | None


def compare(forecast: Forecast, record: RunRecord) -> Comparison:
    """Predicted against measured.

    Raises UserError where the record has no val_loss, is of another VAE, or of another compute.
    """
    measured = record.value("val_loss")
    if measured is None or record.train_flops is None:
        raise UserError(f"run {record.run_id} has no val_loss or no train_flops; let it finish first")
    if abs(record.train_flops / forecast.target_flops - 1) > SAME_COMPUTE:
        raise UserError(
            f"run {record.run_id} took {record.train_flops:.3g} FLOPs, the forecast is for "
            f"{forecast.target_flops:.3g}; compare it with a forecast of its own"
        )
    if forecast.vae_id is not None and record.vae_id != forecast.vae_id:
        raise UserError(
            f"run {record.run_id} is of VAE {record.vae_id}, the forecast of {forecast.vae_id}; "
            "their losses do not compare, so take a run of the same VAE"
        )
    return Comparison(
        run_id=record.run_id,
        train_flops=record.train_flops,
        n_params=record.n_params,
        **_judge(forecast.val_loss, forecast.low, forecast.high, measured),
    )


def forecast(table: pd.DataFrame, target_flops: float, *, seed: int = 0) -> Forecast:
    """Predicts the best run at `target_flops` from the runs with smaller budgets
    (`scaling.core.records.training_table`).

    Runs at or above the target are never looked at; runs without a loss are left out by name.

    Raises UserError where fewer than two budgets or six usable runs lie below the target.
    """
    usable, refusals = _usable(table, target_flops)
    found = predict(usable, target_flops, seed)
    backtest, why = _backtest(usable, found, seed)
    vae = usable["vae_id"].iloc[0] if "vae_id" in usable else None
    return Forecast(
        target_flops=target_flops,
        n_params=float(found.n_params[-1]),
        n_params_low=found.n_params_interval[0],
        n_params_high=found.n_params_interval[1],
        num_tokens=float(found.num_tokens[-1]),
        val_loss=float(found.val_loss[-1]),
        low=float(found.low[-1]),
        high=float(found.high[-1]),
        level=LEVEL,
        noise=found.noise,
        a=found.exponent,
        b=1 - found.exponent * found.frontier.flops_per_token.exponent,
        forms=tuple(
            FormPrediction(
                name=member.form.name,
                formula=member.form.formula,
                val_loss=member.val_loss,
                low=member.low,
                high=member.high,
            )
            for member in found.members
        ),
        law=LawCheck(**found.law.params, status=found.law.status, reason=found.law.reason, n_params=found.law_n_params),
        optima=tuple(
            IsoFlopOptimum(**{name: getattr(optimum, name) for name in IsoFlopOptimum.model_fields})
            for optimum in found.frontier.optima
        ),
        band=Band(
            flops=tuple(found.flops),
            n_params=tuple(found.n_params),
            val_loss=tuple(found.val_loss),
            low=tuple(found.low),
            high=tuple(found.high),
        ),
        backtest=backtest,
        refusals=(*refusals, *found.refusals, *why),
        run_ids=tuple(usable["run_id"]),
        vae_id=vae if isinstance(vae, str) else None,
        seed=seed,
    )


def _usable(table: pd.DataFrame, target_flops: float) -> tuple[pd.DataFrame, list[str]]:
    """The runs below the target that have a loss, and the names of those that have none."""
    require_columns(table)
    below = table[
        ~(table["flop_budget"] >= target_flops * (1 - 1e-6))
    ]  # a missing budget stays, and is refused by name
    lost = below["val_loss"].isna()
    refusals = [f"run {run_id} has no val_loss" for run_id in below["run_id"][lost]]
    return below[~lost].reset_index(drop=True), refusals


def _backtest(table: pd.DataFrame, found: Ensemble, seed: int) -> tuple[Backtest | None, list[str]]:
    largest = found.frontier.optima[-1]
    below = table[table["flop_budget"] < largest.flop_budget].reset_index(drop=True)
    try:
        then = predict(below, largest.flop_budget, seed)
    except UserError as problem:
        return None, [f"backtest: {problem}"]
    predicted, low, high = (float(values[-1]) for values in (then.val_loss, then.low, then.high))
    return Backtest(flop_budget=largest.flop_budget, **_judge(predicted, low, high, largest.val_loss)), []
