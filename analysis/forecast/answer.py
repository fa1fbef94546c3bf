"""One question about the next runs, answered from one table by one method: the engine under `scaling forecast`.

The method follows from the table alone: by forms where the runs come in two or more compute budgets of at least three
runs each, by law elsewhere; or it is named. What is asked changes no method, and an option that the method has no use
for is refused.
"""

import math
from dataclasses import asdict, dataclass
from typing import Any, Literal

from analysis.forecast.by_forms import ByForms
from analysis.forecast.by_law import ByLaw
from analysis.forecast.ensemble import COPIES
from analysis.forecast.record import Forecast
from analysis.forecast.runs_to_add import RunsToAdd, suggest
from analysis.forecast.values import ComputeForLoss, OptimalRun
from analysis.laws.assessment import named_after, table_points
from analysis.laws.bootstrap import Draws, bootstrap
from analysis.laws.budgets import has_budgets
from analysis.laws.fit import fit_law
from analysis.laws.forms import law
from analysis.laws.newton import Objective
from analysis.tables.table import Table
from scaling.core.errors import UserError

ForecastMethod = Literal["forms", "law"]
DRAWS = 1000
"""Resamples behind the intervals of a law, where no other number is asked for."""


@dataclass(frozen=True)
class ForecastQuestion:
    """What is asked, and the options of the answer. None is an option that was not given."""

    flops: float | None = None
    """The training compute whose best run is asked for."""
    target: float | None = None
    """The value of the metric whose compute is asked for."""
    extra_flops: float | None = None
    """Training compute to spend on further runs that narrow the forecast at `flops` most."""
    method: ForecastMethod | None = None
    law: str | None = None
    """Form of the law that answers; an option of the method `law`."""
    delta: float | None = None
    """Huber delta of the fit of that law; an option of the method `law`."""
    metric: str = "loss"
    bootstrap: int | None = None
    """Noisy copies or resamples of the runs, from which the intervals come."""
    seed: int = 0
    drop_top: int = 0
    """Number of runs with the highest values of the metric that are left out."""


@dataclass(frozen=True, eq=False)
class ForecastAnswer:
    """What one method says to one question."""

    question: ForecastQuestion
    table: Table
    method: ForecastMethod
    optimal_run: OptimalRun | None
    compute_for_loss: ComputeForLoss | None
    runs_to_add: RunsToAdd | None
    forecast: Forecast | None
    """By forms: the forecast that the optimal run was taken from."""
    law: Draws | None
    """By law: the fit with its copies."""

    def to_document(self) -> dict[str, Any]:
        """Plain JSON values; what was not asked for has no key."""
        answers = {
            "optimal_run": self.optimal_run,
            "compute_for_loss": self.compute_for_loss,
            "runs_to_add": self.runs_to_add,
        }
        document: dict[str, Any] = {
            "method": self.method,
            "metric": self.question.metric,
            "seed": self.question.seed,
            "notes": list(self.table.notes),
            "excluded": [asdict(run) for run in self.table.excluded],
        }
        document |= {name: asdict(answer) for name, answer in answers.items() if answer is not None}
        if self.forecast is not None:
            document["forecast"] = self.forecast.to_document()
        if self.law is not None:
            fit = self.law.fit
            document["law"] = {"name": fit.form.name, "formula": fit.form.formula, "params": fit.params,
                               "status": fit.status, "reason": fit.reason, "runs": list(fit.points.runs)}  # fmt: skip
        return document


def choose_method(table: Table) -> ForecastMethod:
    """The method for a table where none is named."""
    return "forms" if has_budgets(table) else "law"


def answer(table: Table, question: ForecastQuestion) -> ForecastAnswer:
    """The answer to a question from a table.

    Raises UserError where the method has no use for an option, or the runs cannot carry the answer.
    """
    method = question.method or choose_method(table)  # of the whole table, so that leaving runs out does not change it
    if question.drop_top:
        table = table.without_top(question.drop_top, question.metric)
    try:
        return _by_forms(table, question) if method == "forms" else _by_law(table, question)
    except UserError as problem:
        raise named_after(table, problem) from None


def _by_forms(table: Table, question: ForecastQuestion) -> ForecastAnswer:
    for option, value in (("--law", question.law), ("--delta", question.delta)):
        if value is not None:
            raise UserError(f"{option} is an option of --method law, and this forecast is by forms; add --method law")
    if question.metric != "loss":
        raise UserError(
            f"--metric {question.metric}: the method forms forecasts the loss alone; add --method law for other metrics"
        )
    by_forms = ByForms(table, question.seed, COPIES if question.bootstrap is None else question.bootstrap)
    forecast = by_forms.forecast(question.flops) if question.flops is not None else None
    return ForecastAnswer(
        question=question,
        table=table,
        method="forms",
        optimal_run=by_forms.optimal_run_of(forecast) if forecast is not None else None,
        compute_for_loss=by_forms.compute_for_loss(question.target) if question.target is not None else None,
        runs_to_add=_runs_to_add(_fitted_law(table, question), question) if question.extra_flops is not None else None,
        forecast=forecast,
        law=None,
    )


def _by_law(table: Table, question: ForecastQuestion) -> ForecastAnswer:
    draws = _fitted_law(table, question)
    by_law = ByLaw(draws)
    return ForecastAnswer(
        question=question,
        table=table,
        method="law",
        optimal_run=by_law.optimal_run(question.flops) if question.flops is not None else None,
        compute_for_loss=by_law.compute_for_loss(question.target) if question.target is not None else None,
        runs_to_add=_runs_to_add(draws, question) if question.extra_flops is not None else None,
        forecast=None,
        law=draws,
    )


def _fitted_law(table: Table, question: ForecastQuestion) -> Draws:
    """The law of a table, by least squares of log residuals if no Huber delta is asked for, and its bootstrap."""
    form = law(question.law or "chinchilla")
    points, _ = table_points(table, form, question.metric)
    fit = fit_law(points, form, Objective(math.inf if question.delta is None else question.delta))
    return bootstrap(fit, draws=DRAWS if question.bootstrap is None else question.bootstrap, seed=question.seed)


def _runs_to_add(draws: Draws, question: ForecastQuestion) -> RunsToAdd:
    """Which runs to add depends on a law's gradients, so that under either method a law answers it."""
    if question.flops is None or question.extra_flops is None:
        raise UserError("--add needs --flops: the compute at which the forecast is to be narrowed")
    return suggest(draws, question.flops, question.extra_flops, seed=question.seed)
