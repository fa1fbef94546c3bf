"""`scaling forecast`: what a budget buys, what a target costs, and which runs would tell more, before they are spent.

A folder of runs has budgets, and what one more buys is averaged over forms (docs/forecast.md). Everything else, and any
other table, is answered by a fitted law (docs/laws.md).
"""

import argparse
import json
import math
from dataclasses import asdict
from itertools import groupby
from typing import TYPE_CHECKING, Any

from scaling.cli.options import add_table, read
from scaling.core.errors import UserError

if TYPE_CHECKING:
    from analysis.forecast.forecast import Forecast
    from analysis.laws.allocation import Cost, Estimate, Purchase
    from analysis.laws.bootstrap import Draws
    from analysis.laws.design import Suggestion

EXAMPLES = """examples:
  scaling forecast runs/ --flops 5e13
  scaling forecast runs/ --flops 5e13 --json > forecast.json
  scaling forecast others.csv --drop-top 5 --flops 1e24
  scaling forecast runs/ --target 0.35
  scaling forecast runs/ --flops 5e13 --add 1e13"""
LAWS = ("chinchilla", "chinchilla-no-floor", "shared", "kaplan")


def add_parser(subparsers: Any) -> None:
    parser = subparsers.add_parser(
        "forecast",
        help="what a budget buys, what a target costs, which runs to add",
        description="Predicts size and validation loss of the best run at a compute, from the runs with less compute.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add_table(parser)
    parser.add_argument("--flops", type=float, metavar="C", help="training FLOPs of the run to predict, such as 5e13")
    parser.add_argument("--target", type=float, metavar="L", help="the value of the metric whose cost is asked for")
    parser.add_argument("--add", type=float, metavar="C", help="FLOPs to spend on runs that tell most about --flops")
    parser.add_argument("--law", choices=LAWS, help="answer by this law; by default chinchilla, and for --flops of a "
                        "folder of runs the forms of docs/forecast.md together")  # fmt: skip
    parser.add_argument("--delta", type=float, default=math.inf, metavar="X", help="of the law's Huber loss (default: "
                        "least squares of log residuals)")  # fmt: skip
    parser.add_argument("--metric", metavar="COLUMN", default="loss", help="what is forecast by a law, such as fvd")
    parser.add_argument("--drop-top", type=int, default=0, metavar="K", help="leave out the K highest values")
    parser.add_argument("--bootstrap", type=int, default=1000, metavar="N", help="resamples behind the law's intervals")
    parser.add_argument("--seed", type=int, default=0, help="seed of the noisy copies")
    parser.add_argument("--json", action="store_true", help="print the forecast as JSON")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Prints the forecast. Raises UserError where the runs cannot carry one."""
    _check(args)
    whole = args.law is None and args.target is None and args.add is None and args.metric == "loss"
    if args.table.is_dir() and whole:
        from analysis.forecast.forecast import forecast
        from analysis.tables.table import read_runs

        found = forecast(read_runs(args.table), args.flops, seed=args.seed)
        print(json.dumps(found.to_document(), indent=1, allow_nan=False) if args.json else _text(found))
        return 0
    from analysis.laws.allocation import cost, purchase
    from analysis.laws.design import suggest

    draws = _draws(args)
    buys = purchase(draws, args.flops) if args.flops is not None else None
    costs = cost(draws, args.target) if args.target is not None else None
    adds = suggest(draws, args.flops, args.add, seed=args.seed) if args.add is not None else None
    if args.json:
        fit = draws.fit
        answers = {"buys": buys, "costs": costs, "add": adds}
        document = {"law": fit.form.name, "params": fit.params, "status": fit.status, "reason": fit.reason}
        document |= {name: asdict(answer) for name, answer in answers.items() if answer is not None}
        print(json.dumps(document, indent=1, allow_nan=False))
    else:
        print(_law_text(draws, args.metric, buys, costs, adds))
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
    if args.bootstrap < 100:
        raise UserError(f"--bootstrap is {args.bootstrap}, too few for an interval; give at least 100")
    if not args.delta > 0:
        raise UserError(f"--delta is {args.delta:g}, but must be positive")


def _draws(args: argparse.Namespace) -> "Draws":
    """The law of a table and its bootstrap."""
    from analysis.laws.bootstrap import bootstrap
    from analysis.laws.fit import fit_law
    from analysis.laws.forms import law
    from analysis.laws.newton import Objective
    from analysis.laws.study import gather

    table = read(args)
    if args.table.is_dir():
        table = table.without_missing(args.metric)
    if args.drop_top:
        table = table.without_top(args.drop_top, args.metric)
    form = law(args.law or "chinchilla")
    try:
        points, _ = gather(table, form, args.metric)
        return bootstrap(fit_law(points, form, Objective(args.delta)), draws=args.bootstrap, seed=args.seed)
    except UserError as problem:
        raise UserError(f"{table.path}: {str(problem).removeprefix(f'{table.path}: ')}") from None


def _text(found: "Forecast") -> str:
    lines = [
        f"at {found.target_flops:.3g} training FLOPs, from {len(found.run_ids)} runs:",
        f"  best size  N {found.n_params:.3g} [{found.n_params_low:.3g}, {found.n_params_high:.3g}], "
        f"D {found.num_tokens:.3g} tokens; N ~ C^{found.a:.2f}",
        f"  val_loss   {found.val_loss:.4f}, {found.level:.0%} of new runs in [{found.low:.4f}, {found.high:.4f}]",
    ]
    if found.law.n_params is not None:
        lines.append(f"  by the law N {found.law.n_params:.3g} ({found.law.status})")
    lines += [f"  {form.formula:32} {form.val_loss:.4f} [{form.low:.4f}, {form.high:.4f}]" for form in found.forms]
    if test := found.backtest:
        lines.append(
            f"  backtest at {test.flop_budget:.3g}: predicted {test.predicted:.4f}, measured {test.measured:.4f} "
            f"({test.relative_error:+.1%}, {'inside' if test.inside else 'outside'} the interval)"
        )
    return "\n".join([*lines, *(f"  ! {refusal}" for refusal in found.refusals)])


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


def _estimate(found: "Estimate") -> str:
    low, high = (f"{end:.4g}" if end is not None else "?" for end in (found.low, found.high))
    return f"{found.value:.4g}, 90% [{low}, {high}]"
