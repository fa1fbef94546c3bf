"""A forecast as it is put on record before a run starts, and its comparison with what the run then measured.

Computes no forecast: that is `analysis.forecast.forecast`.
"""

from typing import Any

from scaling.core.errors import UserError
from scaling.core.records import RunRecord
from scaling.core.specs import Spec

SAME_COMPUTE = 0.10
"""A run whose training FLOPs differ by a larger share from the forecast's is not the run that was forecast."""


class FormPrediction(Spec):
    """The prediction of one form at the target; its interval has the noise of the runs but not of the new one."""

    name: str
    formula: str
    val_loss: float
    low: float
    high: float


class RecordedOptimum(Spec):
    """The best size at one budget, from the runs of that budget alone."""

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
    """The best sizes; the losses are those of runs of these sizes."""
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
    """predicted / measured - 1; negative is too optimistic."""
    inside: bool


def verdict_fields(predicted: float, low: float, high: float, measured: float) -> dict[str, Any]:
    """The fields of a Verdict."""
    numbers = {"predicted": predicted, "low": low, "high": high, "measured": measured}
    return {**numbers, "relative_error": predicted / measured - 1, "inside": low <= measured <= high}


class Backtest(Verdict):
    """A forecast from the budgets below the largest one, compared with the isoFLOP optimum at the largest."""

    flop_budget: float


class Forecast(Spec):
    """A forecast as it is put on record. All of it follows from the named runs, the target and the seed."""

    target_flops: float
    n_params: float
    """Best size at the target: the minimum of the joint isoFLOP fit (`analysis.forecast.joint_isoflop`)."""
    n_params_low: float
    n_params_high: float
    num_tokens: float
    """target_flops divided by the training FLOPs per token of that size."""
    val_loss: float
    """Median of the predictions of all forms."""
    low: float
    high: float
    """The loss of a new run lies in [low, high] with probability `level`, form error and run noise included."""
    level: float
    noise: float
    """Relative standard deviation of one run, as estimated from the runs."""
    a: float
    """Exponent of the best N in C."""
    b: float
    """Exponent of the best D in C."""
    forms: tuple[FormPrediction, ...]
    law: LawCheck
    optima: tuple[RecordedOptimum, ...]
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


class ForecastComparison(Verdict):
    """A forecast and the run that it predicted."""

    run_id: str
    train_flops: float
    n_params: float | None


def compare(forecast: Forecast, record: RunRecord) -> ForecastComparison:
    """Predicted against measured.

    Raises UserError where the record has no val_loss, is of another VAE, or of another compute.
    """
    measured = record.value("val_loss")
    if measured is None or record.train_flops is None:
        raise UserError(f"run {record.run_id} has no val_loss or no train_flops; let it finish first")
    if abs(record.train_flops / forecast.target_flops - 1) > SAME_COMPUTE:
        raise UserError(
            f"run {record.run_id} took {record.train_flops:.3g} FLOPs, the forecast is for "
            f"{forecast.target_flops:.3g}; compare the run with a forecast for its own compute"
        )
    if forecast.vae_id is not None and record.vae_id != forecast.vae_id:
        raise UserError(
            f"run {record.run_id} is of VAE {record.vae_id}, the forecast of {forecast.vae_id}; "
            "their losses do not compare, so take a run of the same VAE"
        )
    return ForecastComparison(
        run_id=record.run_id,
        train_flops=record.train_flops,
        n_params=record.n_params,
        **verdict_fields(forecast.val_loss, forecast.low, forecast.high, measured),
    )
