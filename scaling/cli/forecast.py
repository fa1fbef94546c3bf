"""`scaling forecast`: what a compute buys, what a loss costs, and which runs to add, before they are spent.

Parses and prints; `analysis.forecast.answer` chooses the method and answers.
"""

import argparse
import json
import math
from itertools import groupby
from typing import TYPE_CHECKING, Any

from scaling.cli.options import add_table, read
from scaling.core.errors import UserError

if TYPE_CHECKING:
    from analysis.forecast.answer import ForecastAnswer
    from analysis.forecast.record import Forecast
    from analysis.forecast.runs_to_add import RunsToAdd
    from analysis.forecast.values import ComputeForLoss, OptimalRun, ValueInterval

EXAMPLES = """examples:
  scaling forecast runs/ --flops 5e13
  scaling forecast runs/ --flops 5e13 --json > forecast.json
  scaling forecast others.csv --drop-top 5 --flops 1e24
  scaling forecast runs/ --target 0.35
  scaling forecast runs/ --flops 5e13 --add 1e13
  scaling forecast runs/ --method law --law kaplan --metric fvd --flops 5e13"""
LAWS = ("chinchilla", "chinchilla-no-floor", "shared", "kaplan")
METHODS = ("forms", "law")
LEAST_RESAMPLES = 100


def add_parser(subparsers: Any) -> None:
    parser = subparsers.add_parser(
        "forecast",
        help="what a budget buys, what a target costs, which runs to add",
        description="Predicts the best run at a training compute, the compute for a loss, and the runs to add. Several "
        "forms of the loss answer together where the runs come in two or more compute budgets of at least three runs "
        "each, one fitted law elsewhere; --method names one of the two. docs/forecast.md explains both.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add_table(parser)
    parser.add_argument("--flops", type=float, metavar="C", help="training FLOPs of the run to predict, such as 5e13")
    parser.add_argument("--target", type=float, metavar="L", help="the value of the metric whose compute is asked for")
    parser.add_argument("--add", type=float, metavar="C", help="FLOPs to spend on runs that tell most about --flops")
    parser.add_argument("--method", choices=METHODS, help="several forms together, or one law")
    parser.add_argument("--law", choices=LAWS, help="form of the law (default: chinchilla); for --method law")
    parser.add_argument("--delta", type=float, metavar="X", help="delta of the law's Huber loss (default: least "
                        "squares of log residuals); for --method law")  # fmt: skip
    parser.add_argument("--metric", metavar="COLUMN", default="loss", help="what is forecast, such as fvd; other than "
                        "the loss for --method law")  # fmt: skip
    parser.add_argument("--drop-top", type=int, default=0, metavar="K", help="leave out the K highest values")
    parser.add_argument("--bootstrap", type=int, metavar="N", help="copies of the runs behind the intervals (default: "
                        "300 noisy copies by forms, 1000 resamples by law)")  # fmt: skip
    parser.add_argument("--seed", type=int, default=0, help="seed of the copies")
    parser.add_argument("--json", action="store_true", help="print the forecast as JSON")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Prints the forecast. Raises UserError where the runs cannot carry one, or an option has no use."""
    _check(args)
    table = read(args)
    from analysis.forecast.answer import ForecastQuestion, answer

    question = ForecastQuestion(
        flops=args.flops,
        target=args.target,
        extra_flops=args.add,
        method=args.method,
        law=args.law,
        delta=args.delta,
        metric=args.metric,
        bootstrap=args.bootstrap,
        seed=args.seed,
    )
    answered = answer(table, question)
    print(json.dumps(answered.to_document(), indent=1, allow_nan=False) if args.json else answer_text(answered))
    return 0


def _check(args: argparse.Namespace) -> None:
    for option in ("flops", "target", "add"):
        value = getattr(args, option)
        if value is not None and not (math.isfinite(value) and value > 0):
            raise UserError(f"--{option} is {value}, but must be a positive number")
    if args.flops is None and args.target is None:
        raise UserError("nothing is asked: give --flops C for what a compute buys, or --target L for what a loss costs")
    if args.add is not None and args.flops is None:
        raise UserError("--add needs --flops: the compute at which the forecast is to be made surer")
    for option in ("seed", "drop_top"):
        if getattr(args, option) < 0:
            raise UserError(f"--{option.replace('_', '-')} is {getattr(args, option)}, but must not be negative")
    if args.bootstrap is not None and args.bootstrap < LEAST_RESAMPLES:
        raise UserError(f"--bootstrap is {args.bootstrap}, too few for an interval; give at least {LEAST_RESAMPLES}")
    if args.delta is not None and not args.delta > 0:
        raise UserError(f"--delta is {args.delta:g}, but must be positive")


def answer_text(answered: "ForecastAnswer") -> str:
    """The answer in lines for people."""
    metric = answered.question.metric
    lines = [_method_line(answered)]
    if answered.optimal_run is not None:
        lines += _optimal_run_lines(answered.optimal_run, metric)
    if answered.forecast is not None:
        lines += _forecast_lines(answered.forecast)
    if answered.compute_for_loss is not None:
        lines += _compute_lines(answered.compute_for_loss, metric)
    if answered.runs_to_add is not None:
        lines += _added_run_lines(answered.runs_to_add)
    for reason, runs in groupby(answered.table.excluded, key=lambda excluded: excluded.reason):
        lines.append(f"  left out, {reason}: {', '.join(excluded.run for excluded in runs)}")
    return "\n".join(lines)


def _method_line(answered: "ForecastAnswer") -> str:
    if answered.law is None:
        return f"several forms together (--method forms), {len(answered.table.runs)} runs in compute budgets"
    fit = answered.law.fit
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
    for run, same in groupby(suggested.runs):
        size = f"N {run.n_params:.3g}, D {run.num_tokens:.3g} tokens, {run.train_flops:.3g} FLOPs"
        lines.append(f"  {len(list(same))} x {size}")
    lines.append(
        f"  90% interval of a law there: {suggested.width_now:.2%} wide now, {suggested.width_then:.2%} with them, "
        f"{suggested.width_even:.2%} with evenly spread runs of equal cost (simulated)"
    )
    return lines


def _with_interval(number: "ValueInterval") -> str:
    low, high = (f"{end:.4g}" if end is not None else "?" for end in (number.low, number.high))
    return f"{number.value:.4g}, 90% [{low}, {high}]"
