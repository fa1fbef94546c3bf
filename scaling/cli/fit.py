"""`scaling fit`: a law with intervals and a verdict, from our runs or from anybody's table."""

import argparse
import json
import math
import sys
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any

from scaling.cli.options import add_table, numbers_of, read
from scaling.core.errors import UserError

if TYPE_CHECKING:
    from analysis.laws.optima import Allometry
    from analysis.laws.study import Study

EXAMPLES = """examples:
  scaling fit runs/
  scaling fit others.csv --drop-top 5 --json
  scaling fit others.csv --column n_params="Model Size" --unit n_params=1e6
  scaling fit runs/ --law power-floor --against train_flops --metric fvd
  scaling fit runs/ --law power-floor --pin E=0.25 --lean 0.5
  scaling fit runs/ --method isoflop
  scaling fit runs/ --plot law.svg
  scaling fit runs/ --plot figures/"""
LAWS = ("chinchilla", "chinchilla-no-floor", "shared", "kaplan", "repeated", "power", "power-floor", "metric")
METHODS = ("huber", "least-squares", "isoflop", "envelope")


def add_parser(subparsers: Any) -> None:
    parser = subparsers.add_parser(
        "fit",
        help="fit a scaling law to runs or to a table",
        description="Fits a law, such as L(N, D) = E + A/N^alpha + B/D^beta, and says how far it can be trusted. "
        "docs/laws.md explains the laws, the methods and what is printed.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add_table(parser)
    parser.add_argument(
        "--law", choices=LAWS, default="chinchilla", help="form of the law; the last three have one axis"
    )
    parser.add_argument("--against", metavar="COLUMN", default="train_flops", help="axis of a law with one axis")
    parser.add_argument("--metric", metavar="COLUMN", default="loss", help="what is fitted, such as fvd")
    parser.add_argument(
        "--method",
        choices=METHODS,
        default="huber",
        help="huber: of log residuals; least-squares: of the metric; isoflop: a parabola per budget (Approach 2); "
        "envelope: the best run so far (Approach 1); the last two give a and b alone",
    )
    parser.add_argument(
        "--delta",
        type=float,
        metavar="X",
        help="of the Huber loss; inf for least squares (default: 0.001, and inf for fewer than 30 runs)",
    )
    parser.add_argument("--weigh", action="store_true", help="weigh runs by 1/variance, known from repeated seeds")
    parser.add_argument(
        "--lean", type=float, default=0.0, metavar="P", help="weigh runs by compute^P; .5 to extrapolate"
    )
    parser.add_argument(
        "--pin", action="append", default=[], metavar="NAME=X", help="a floor or exponent that is known"
    )
    parser.add_argument("--drop-top", type=int, default=0, metavar="K", help="leave out the K highest values")
    parser.add_argument("--bootstrap", type=int, default=1000, metavar="N", help="resamples; 0 for no intervals")
    parser.add_argument("--seed", type=int, default=0, help="seed of the bootstrap")
    parser.add_argument(
        "--plot", type=Path, metavar="PATH", help="a .png, .svg or .pdf of fit and residuals; a folder for all figures"
    )
    parser.add_argument("--json", action="store_true", help="print the result as JSON")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Fits, prints, and draws if asked. Raises UserError where the table or an option cannot be used."""
    for option in ("drop_top", "bootstrap", "seed"):
        if getattr(args, option) < 0:
            raise UserError(f"--{option.replace('_', '-')} is {getattr(args, option)}, but must not be negative")
    if not math.isfinite(args.lean):
        raise UserError(f"--lean is {args.lean}, but must be a number")
    if args.delta is not None and not args.delta > 0:
        raise UserError(f"--delta is {args.delta:g}, but must be positive")
    table = read(args)
    if args.table.is_dir():
        table = table.without_missing(args.metric)  # few runs are measured in every way; in a file it is a mistake
    if args.drop_top:
        table = table.without_top(args.drop_top, args.metric)
    if args.method in ("isoflop", "envelope"):
        return _cross_check(args, table)
    from analysis.laws.forms import law
    from analysis.laws.newton import Objective
    from analysis.laws.study import study

    raw, chosen = args.method == "least-squares", args.delta
    found = study(
        table,
        law(args.law, args.against).pin(**numbers_of(args.pin, "--pin")),
        Objective(math.inf, raw=True) if raw else Objective(chosen) if chosen else None,
        metric=args.metric,
        draws=args.bootstrap,
        seed=args.seed,
        weigh=args.weigh,
        lean=args.lean,
    )
    if args.plot:
        from analysis.figures.laws import draw_study

        for path in draw_study(found, args.plot):
            print(f"wrote {path}", file=sys.stderr)
    print(json.dumps(found.to_document(), indent=1, allow_nan=False) if args.json else _text(found))
    return 0


def _cross_check(args: argparse.Namespace, table: Any) -> int:
    from analysis.laws.optima import allometry

    found = allometry(table, args.method, args.metric)
    print(json.dumps(found.to_document(), indent=1, allow_nan=False) if args.json else _allometry_text(found))
    return 0


def _text(found: "Study") -> str:
    from analysis.laws.bootstrap import LEVEL

    fit = found.fit
    lines = [*found.table.said, f"{fit.form.formula}: {len(fit.points)} points, {fit.status}"]
    derived = {"a": fit.a, "b": fit.b} if fit.a is not None else {}
    for name, value in {**fit.params, **derived}.items():
        low, high = found.intervals.get(name, (None, None))
        lines.append(
            f"  {name:6} {value:<10.5g}" + (f" {LEVEL:.0%} [{low:.4g}, {high:.4g}]" if low is not None else "")
        )
    if fit.measure.raw:
        lines.append(f"  objective {fit.objective:.6g} (half the sum of squared residuals)")
    elif math.isinf(fit.measure.delta):
        lines.append(f"  objective {fit.objective:.6g} (half the sum of squared log residuals)")
    else:
        lines.append(
            f"  objective {fit.objective:.6g} (sum of Huber losses of log residuals, delta {fit.measure.delta:g})"
        )
    if found.noise:
        noise = found.noise
        lines.append(f"  noise of a run {noise.run:.2%}, of its measurement {noise.evaluation:.2%}")
    for holdout in found.holdouts:
        lines.append(
            f"  from runs up to {holdout.up_to_flops:.3g} FLOPs: {holdout.n_foretold} runs up to {holdout.reach:.3g}x "
            f"foretold {holdout.bias:+.2%}, rms {holdout.rms:.2%}, {holdout.covered:.0%} inside their 90% intervals"
        )
    for reason, runs in groupby(found.table.left, key=lambda left: left.reason):
        lines.append(f"  left out, {reason}: {', '.join(left.run for left in runs)}")
    return "\n".join([*lines, *(f"  ! {warning}" for warning in found.warnings)])


def _allometry_text(found: "Allometry") -> str:
    lines = [f"{found.method}: N ~ C^{found.a:.4f}, D ~ C^{found.b:.4f}, from {found.used} optima"]
    for optimum in found.optima:
        lines.append(
            f"  C {optimum.flops:.3g}: N {optimum.n_params:.3g}, D {optimum.num_tokens:.3g}, {optimum.metric:.4g}"
            + (f"  refused: {optimum.refusal}" if optimum.refusal else "")
        )
    return "\n".join(lines)
