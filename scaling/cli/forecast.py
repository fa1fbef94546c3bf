"""`scaling forecast`: what a compute buys, what a loss takes, and which further runs would narrow the forecast.

Parses and prints; `analysis.forecast.answer` chooses the method and answers.
"""

import json
from dataclasses import dataclass
from itertools import groupby
from typing import TYPE_CHECKING, Annotated, Literal

from cyclopts import Parameter
from cyclopts.validators import Number

from scaling.cli.options import (
    DropTop,
    Json,
    MetricColumn,
    NonNegativeInt,
    PositiveFloat,
    ReadingOptions,
    TablePath,
    read,
    whole_number,
)
from scaling.cli.printing import reading_lines
from scaling.core.errors import UserError

if TYPE_CHECKING:
    from analysis.forecast.answer import ForecastAnswer
    from analysis.forecast.record import Forecast
    from analysis.forecast.runs_to_add import RunsToAdd
    from analysis.forecast.values import ComputeForLoss, OptimalRun, ValueInterval

ForecastLawName = Literal["chinchilla", "chinchilla-no-floor", "shared", "kaplan"]
ForecastMethodName = Literal["forms", "law"]


@Parameter("*")
@dataclass(frozen=True)
class ForecastOptions:
    """What is asked, and by which method it is answered."""

    flops: Annotated[PositiveFloat | None, Parameter(help="training FLOPs of the run to predict, such as 5e13")] = None
    target: Annotated[
        PositiveFloat | None, Parameter(help="value of the metric whose training compute is asked for")
    ] = None
    add: Annotated[
        PositiveFloat | None, Parameter(help="FLOPs to spend on further runs that narrow the forecast at --flops most")
    ] = None
    method: Annotated[
        ForecastMethodName | None,
        Parameter(help="forms: several forms of the loss together; law: one fitted law (default: forms where the runs "
                  "come in two or more compute budgets of at least three runs each, law elsewhere)"),
    ] = None  # fmt: skip
    law: Annotated[ForecastLawName | None, Parameter(help="form of the law of --method law (default: chinchilla)")] = (
        None
    )
    delta: Annotated[
        float | None,
        Parameter(validator=Number(gt=0), help="delta of the Huber loss of --method law (default: inf, which is least "
                  "squares of log residuals)"),
    ] = None  # fmt: skip
    metric: MetricColumn = "loss"
    drop_top: DropTop = 0
    bootstrap: Annotated[
        Annotated[int, whole_number(at_least=100)] | None,
        Parameter(help="copies of the runs behind the intervals (default: 300 noisy copies by forms, 1000 resamples by "
                  "law)"),
    ] = None  # fmt: skip
    seed: Annotated[NonNegativeInt, Parameter(help="seed of the copies")] = 0


def run(
    table: TablePath,
    /,
    *,
    reading: ReadingOptions = ReadingOptions(),
    options: ForecastOptions = ForecastOptions(),
    as_json: Json = False,
) -> int:
    """Predicts the best run at a training compute, the compute that a loss takes, and the runs to add.

    Several forms of the loss answer together where the runs come in compute budgets, one fitted law elsewhere;
    docs/forecast.md explains both.

    examples:
      scaling forecast runs/ --flops 5e13
      scaling forecast runs/ --flops 5e13 --json > forecast.json
      scaling forecast others.csv --drop-top 5 --flops 1e24
      scaling forecast runs/ --target 0.35
      scaling forecast runs/ --flops 5e13 --add 1e13
      scaling forecast runs/ --method law --metric fvd --flops 5e13
    """
    if options.flops is None and options.target is None:
        raise UserError("nothing is asked: give --flops C for what a compute buys, or --target L for what a loss takes")
    if options.add is not None and options.flops is None:
        raise UserError("--add needs --flops: the compute at which the forecast is to be narrowed")
    from analysis.forecast.answer import ForecastQuestion, answer
    from analysis.laws.forms import C_AXIS, D_AXIS, N_AXIS

    rows = read(table, reading, options.metric, axes=(N_AXIS, D_AXIS, C_AXIS))
    question = ForecastQuestion(
        flops=options.flops,
        target=options.target,
        extra_flops=options.add,
        method=options.method,
        law=options.law,
        delta=options.delta,
        metric=rows.name_of(options.metric),
        bootstrap=options.bootstrap,
        seed=options.seed,
        drop_top=options.drop_top,
    )
    result = answer(rows, question)
    print(json.dumps(result.to_document(), indent=1, allow_nan=False) if as_json else _answer_text(result))
    return 0


def _answer_text(result: "ForecastAnswer") -> str:
    """The answer in lines for people."""
    metric = result.question.metric
    lines = [_method_line(result)]
    if result.optimal_run is not None:
        lines += _optimal_run_lines(result.optimal_run, metric)
    if result.forecast is not None:
        lines += _forecast_lines(result.forecast)
    if result.compute_for_loss is not None:
        lines += _compute_lines(result.compute_for_loss, metric)
    if result.runs_to_add is not None:
        lines += _added_run_lines(result.runs_to_add)
    return "\n".join([*lines, *reading_lines(result.table)])


def _method_line(result: "ForecastAnswer") -> str:
    if result.law is None:
        return f"several forms together (--method forms), {len(result.table.runs)} runs in compute budgets"
    fit = result.law.fit
    return f"one law (--method law), {fit.form.formula}: {len(fit.points)} points, {fit.status}"


def _optimal_run_lines(run: "OptimalRun", metric: str) -> list[str]:
    return [
        f"at {run.train_flops:.3g} training FLOPs, {run.reach:.3g} times the largest of the runs:",
        f"  best size  N {_with_interval(run.n_params)}, D {run.num_tokens:.3g} tokens",
        f"  {metric:10} {_with_interval(run.metric)} for a new run",
        *(f"  ! {note}" for note in run.notes),
    ]


def _forecast_lines(forecast: "Forecast") -> list[str]:
    """The evidence behind a forecast by forms: each form, the law's size, the backtest, and what could not be used."""
    lines = [f"  from {len(forecast.run_ids)} runs with less compute; N ~ C^{forecast.a:.2f}"]
    lines += [f"  {form.formula:32} {form.val_loss:.4f} [{form.low:.4f}, {form.high:.4f}]" for form in forecast.forms]
    if forecast.law.n_params is not None:
        lines.append(f"  best size by the last form alone: N {forecast.law.n_params:.3g} ({forecast.law.status})")
    if test := forecast.backtest:
        lines.append(
            f"  backtest at {test.flop_budget:.3g}: predicted {test.predicted:.4f}, measured {test.measured:.4f} "
            f"({test.relative_error:+.1%}, {'inside' if test.inside else 'outside'} the interval)"
        )
    return [*lines, *(f"  ! {refusal}" for refusal in forecast.refusals)]


def _compute_lines(answer: "ComputeForLoss", metric: str) -> list[str]:
    return [
        f"a {metric} of {answer.target:g} takes {_with_interval(answer.train_flops)} training FLOPs, "
        f"{answer.reach:.3g} times the largest of the runs: N {_with_interval(answer.n_params)}, "
        f"D {answer.num_tokens:.3g} tokens",
        *(f"  ! {note}" for note in answer.notes),
    ]


def _added_run_lines(suggested: "RunsToAdd") -> list[str]:
    lines = [f"runs that tell most about {suggested.target_flops:.3g} FLOPs, for {suggested.train_flops:.3g} in all:"]
    for run, equal_runs in groupby(suggested.runs):
        size = f"N {run.n_params:.3g}, D {run.num_tokens:.3g} tokens, {run.train_flops:.3g} FLOPs"
        lines.append(f"  {len(list(equal_runs))} x {size}")
    lines.append(
        f"  90% interval of a law there: {suggested.width_now:.2%} wide now, {suggested.width_then:.2%} with them, "
        f"{suggested.width_even:.2%} with evenly spread runs of equal cost (simulated)"
    )
    return lines


def _with_interval(number: "ValueInterval") -> str:
    low, high = (f"{end:.4g}" if end is not None else "?" for end in (number.low, number.high))
    return f"{number.value:.4g}, 90% [{low}, {high}]"
