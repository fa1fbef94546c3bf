"""`scaling forecast`: what a budget buys, what a target costs, and which further runs would narrow the forecast.

A folder of runs has budgets, and what the next one buys is averaged over forms (docs/forecast.md). Everything else, and
any other table, is answered by a fitted law (docs/laws.md).
"""

import json
import math
from dataclasses import asdict, dataclass
from itertools import groupby
from pathlib import Path
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
from scaling.core.errors import UserError

if TYPE_CHECKING:
    from analysis.forecast.forecast import Forecast
    from analysis.laws.allocation import Cost, Estimate, Purchase
    from analysis.laws.bootstrap import Draws
    from analysis.laws.design import Suggestion

ForecastLawName = Literal["chinchilla", "chinchilla-no-floor", "shared", "kaplan"]


@Parameter("*")
@dataclass(frozen=True)
class ForecastOptions:
    """What is asked, and of which law."""

    flops: Annotated[PositiveFloat | None, Parameter(help="training FLOPs of the run to predict, such as 5e13")] = None
    target: Annotated[PositiveFloat | None, Parameter(help="value of the metric whose cost is asked for")] = None
    add: Annotated[
        PositiveFloat | None, Parameter(help="FLOPs to spend on further runs that narrow the forecast at --flops most")
    ] = None
    law: Annotated[
        ForecastLawName | None,
        Parameter(help="answer by this law (default: chinchilla; for --flops of a folder of runs the forms of "
                  "docs/forecast.md together)"),
    ] = None  # fmt: skip
    delta: Annotated[
        float,
        Parameter(validator=Number(gt=0), help="delta of the law's Huber loss; inf for least squares of log residuals"),
    ] = math.inf
    metric: MetricColumn = "loss"
    drop_top: DropTop = 0
    bootstrap: Annotated[
        int, whole_number(at_least=100), Parameter(help="resamples behind the intervals of the law")
    ] = 1000
    seed: Annotated[NonNegativeInt, Parameter(help="seed of the resamples")] = 0


def run(
    table: TablePath,
    /,
    *,
    reading: ReadingOptions = ReadingOptions(),
    options: ForecastOptions = ForecastOptions(),
    as_json: Json = False,
) -> int:
    """Predicts size and validation loss of the best run at a compute, from the runs with less compute.

    examples:
      scaling forecast runs/ --flops 5e13
      scaling forecast runs/ --flops 5e13 --json > forecast.json
      scaling forecast others.csv --drop-top 5 --flops 1e24
      scaling forecast runs/ --target 0.35
      scaling forecast runs/ --flops 5e13 --add 1e13
    """
    if options.flops is None and options.target is None:
        raise UserError("nothing is asked: give --flops C for what a compute buys, or --target L for what a loss costs")
    if options.add is not None and options.flops is None:
        raise UserError("--add needs --flops: the compute at which the forecast is to be narrowed")
    by_forms = options.law is None and options.target is None and options.add is None and options.metric == "loss"
    if table.is_dir() and by_forms and options.flops is not None:
        from analysis.forecast.forecast import forecast
        from analysis.tables.table import read_runs

        prediction = forecast(read_runs(table), options.flops, seed=options.seed)
        print(json.dumps(prediction.to_document(), indent=1, allow_nan=False) if as_json else _forms_text(prediction))
        return 0
    from analysis.laws.allocation import cost, purchase
    from analysis.laws.design import suggest

    draws, flops = _draws(table, reading, options), options.flops
    buys = purchase(draws, flops) if flops is not None else None
    costs = cost(draws, options.target) if options.target is not None else None
    adds = suggest(draws, flops, options.add, seed=options.seed) if options.add is not None and flops else None
    if as_json:
        fit = draws.fit
        answers = {"buys": buys, "costs": costs, "add": adds}
        document = {"law": fit.form.name, "params": fit.params, "status": fit.status, "reason": fit.reason}
        document |= {name: asdict(answer) for name, answer in answers.items() if answer is not None}
        print(json.dumps(document, indent=1, allow_nan=False))
    else:
        print(_law_text(draws, options.metric, buys, costs, adds))
    return 0


def _draws(table: Path, reading: ReadingOptions, options: ForecastOptions) -> "Draws":
    """The law of a table and its bootstrap."""
    from analysis.laws.bootstrap import bootstrap
    from analysis.laws.fit import fit_law
    from analysis.laws.forms import law
    from analysis.laws.newton import Objective
    from analysis.laws.study import gather

    rows, form = read(table, reading, options.metric, options.drop_top), law(options.law or "chinchilla")
    try:
        points, _ = gather(rows, form, options.metric)
        fit = fit_law(points, form, Objective(options.delta))
        return bootstrap(fit, draws=options.bootstrap, seed=options.seed)
    except UserError as problem:
        raise UserError(f"{rows.path}: {str(problem).removeprefix(f'{rows.path}: ')}") from None


def _forms_text(prediction: "Forecast") -> str:
    lines = [
        f"at {prediction.target_flops:.3g} training FLOPs, from {len(prediction.run_ids)} runs:",
        f"  best size  N {prediction.n_params:.3g} [{prediction.n_params_low:.3g}, {prediction.n_params_high:.3g}], "
        f"D {prediction.num_tokens:.3g} tokens; N ~ C^{prediction.a:.2f}",
        f"  val_loss   {prediction.val_loss:.4f}, {prediction.level:.0%} of new runs in "
        f"[{prediction.low:.4f}, {prediction.high:.4f}]",
    ]
    if prediction.law.n_params is not None:
        lines.append(f"  by the law N {prediction.law.n_params:.3g} ({prediction.law.status})")
    lines += [f"  {form.formula:32} {form.val_loss:.4f} [{form.low:.4f}, {form.high:.4f}]" for form in prediction.forms]
    if test := prediction.backtest:
        lines.append(
            f"  backtest at {test.flop_budget:.3g}: predicted {test.predicted:.4f}, measured {test.measured:.4f} "
            f"({test.relative_error:+.1%}, {'inside' if test.inside else 'outside'} the interval)"
        )
    return "\n".join([*lines, *(f"  ! {refusal}" for refusal in prediction.refusals)])


def _law_text(
    draws: "Draws", metric: str, buys: "Purchase | None", costs: "Cost | None", adds: "Suggestion | None"
) -> str:
    fit = draws.fit
    lines = [f"{fit.form.formula}: {len(fit.points)} points, {fit.status}"]
    if buys:
        lines += [
            f"at {buys.train_flops:.3g} training FLOPs, {buys.reach:.3g} times the largest of the runs:",
            f"  best size  N {_estimate(buys.n_params)}, D {buys.num_tokens:.3g} tokens",
            f"  {metric:10} {_estimate(buys.metric)} for a new run",
        ]
    if costs:
        lines += [
            f"a {metric} of {costs.target:g} costs {_estimate(costs.train_flops)} training FLOPs, "
            f"{costs.reach:.3g} times the largest of the runs: N {costs.n_params:.3g}, D {costs.num_tokens:.3g} tokens",
        ]
        if costs.never:
            lines.append(f"  ! {costs.never:.0%} of the bootstrap's laws never reach it")
    if adds:
        lines.append(f"runs that tell most about {adds.target_flops:.3g} FLOPs, for {adds.train_flops:.3g} in all:")
        for run, same in groupby(adds.runs):
            size = f"N {run.n_params:.3g}, D {run.num_tokens:.3g} tokens, {run.train_flops:.3g} FLOPs"
            lines.append(f"  {len(list(same))} x {size}")
        lines.append(
            f"  90% interval of the law there: {adds.width_now:.2%} wide now, {adds.width_then:.2%} with them, "
            f"{adds.width_even:.2%} with evenly spread runs of equal cost (simulated)"
        )
    return "\n".join([*lines, *([f"  ! {fit.reason}"] if fit.reason else [])])


def _estimate(estimate: "Estimate") -> str:
    low, high = (f"{end:.4g}" if end is not None else "?" for end in (estimate.low, estimate.high))
    return f"{estimate.value:.4g}, 90% [{low}, {high}]"
