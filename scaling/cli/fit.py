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
  scaling fit runs/ --law power-floor --fix E=0.25 --compute-weight 0.5
  scaling fit runs/ --method isoflop
  scaling fit runs/ --plot law.svg
  scaling fit runs/ --plot figures/"""
LAWS = ("chinchilla", "chinchilla-no-floor", "shared", "kaplan", "repeated", "power", "power-floor", "metric")
ONE_AXIS = ("power", "power-floor", "metric")
METHODS = ("huber", "least-squares", "isoflop", "envelope")
LAW_OPTIONS = (
    "law", "against", "delta", "inverse_variance", "compute_weight", "fix", "bootstrap", "seed", "plot"
)  # fmt: skip
"""Options that the methods isoflop and envelope have no use for."""
DRAWS = 1000
"""Resamples of the bootstrap where no other number is asked for."""


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
        "--law", choices=LAWS, help="form of the law (default: chinchilla); the last three have one axis"
    )
    parser.add_argument("--against", metavar="COLUMN", help="axis of a law with one axis (default: train_flops)")
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
    parser.add_argument(
        "--inverse-variance", action="store_true", help="weight runs by 1/variance, known from repeated seeds"
    )
    parser.add_argument(
        "--compute-weight", type=float, metavar="P", help="weight runs by compute^P; .5 to extrapolate (default: 0)"
    )
    parser.add_argument(
        "--fix", action="append", default=[], metavar="NAME=X", help="a floor or exponent that is known"
    )
    parser.add_argument("--drop-top", type=int, default=0, metavar="K", help="leave out the K highest values")
    parser.add_argument("--bootstrap", type=int, metavar="N", help="resamples; 0 for no intervals (default: 1000)")
    parser.add_argument("--seed", type=int, help="seed of the bootstrap (default: 0)")
    parser.add_argument(
        "--plot", type=Path, metavar="PATH", help="a .png, .svg or .pdf of fit and residuals; a folder for all figures"
    )
    parser.add_argument("--json", action="store_true", help="print the result as JSON")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Fits, prints, and draws if asked. Raises UserError where the table or an option cannot be used."""
    for option in ("drop_top", "bootstrap", "seed"):
        if (getattr(args, option) or 0) < 0:
            raise UserError(f"--{option.replace('_', '-')} is {getattr(args, option)}, but must not be negative")
    if args.compute_weight is not None and not math.isfinite(args.compute_weight):
        raise UserError(f"--compute-weight is {args.compute_weight}, but must be a number")
    if args.delta is not None and not args.delta > 0:
        raise UserError(f"--delta is {args.delta:g}, but must be positive")
    _refuse_unused(args)
    table = read(args)
    if args.method in ("isoflop", "envelope"):
        return _cross_check(args, table)
    from analysis.laws.forms import law
    from analysis.laws.newton import Objective
    from analysis.laws.study import study

    raw, delta = args.method == "least-squares", args.delta
    studied = study(
        table,
        law(args.law or "chinchilla", args.against or "train_flops").fix(**numbers_of(args.fix, "--fix")),
        Objective(math.inf, raw=True) if raw else Objective(delta) if delta else None,
        metric=args.metric,
        draws=DRAWS if args.bootstrap is None else args.bootstrap,
        seed=args.seed or 0,
        inverse_variance=args.inverse_variance,
        compute_weight=args.compute_weight or 0.0,
    )
    if args.plot:
        from analysis.figures.laws import draw_study

        for path in draw_study(studied, args.plot):
            print(f"wrote {path}", file=sys.stderr)
    print(json.dumps(studied.to_document(), indent=1, allow_nan=False) if args.json else _text(studied))
    return 0


def _refuse_unused(args: argparse.Namespace) -> None:
    """Raises UserError for an option that would change nothing beside the others."""
    if args.method in ("isoflop", "envelope"):
        for option in LAW_OPTIONS:
            if getattr(args, option) not in (None, False, []):
                raise UserError(
                    f"--{option.replace('_', '-')} is an option of a law, and --method {args.method} fits none; "
                    "leave one of the two out"
                )
    if args.method == "least-squares" and args.delta is not None:
        raise UserError("--delta is an option of --method huber; leave it out, or leave out --method least-squares")
    if args.against is not None and args.law not in ONE_AXIS:
        raise UserError(f"--against is the axis of a law with one axis; add --law with one of {', '.join(ONE_AXIS)}")
    if args.seed is not None and args.bootstrap == 0:
        raise UserError("--seed is the seed of the bootstrap, and --bootstrap 0 makes none; leave one of the two out")


def _cross_check(args: argparse.Namespace, table: Any) -> int:
    from analysis.laws.optima import allometry

    exponents = allometry(table, args.method, args.metric)
    document = json.dumps(exponents.to_document(), indent=1, allow_nan=False) if args.json else None
    print(document or _allometry_text(exponents))
    return 0


def _text(studied: "Study") -> str:
    from analysis.laws.bootstrap import LEVEL

    fit = studied.fit
    lines = [*studied.table.column_sources, f"{fit.form.formula}: {len(fit.points)} points, {fit.status}"]
    derived = {"a": fit.a, "b": fit.b} if fit.a is not None else {}
    for name, value in {**fit.params, **derived}.items():
        low, high = studied.intervals.get(name, (None, None))
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
    if studied.noise:
        noise = studied.noise
        lines.append(f"  noise of a run {noise.run:.2%}, of its measurement {noise.evaluation:.2%}")
    for holdout in studied.holdouts:
        lines.append(
            f"  from runs up to {holdout.up_to_flops:.3g} FLOPs: {holdout.n_predicted} runs up to {holdout.reach:.3g}x "
            f"predicted {holdout.bias:+.2%}, rms {holdout.rms:.2%}, {holdout.covered:.0%} inside their 90% intervals"
        )
    for reason, runs in groupby(studied.table.excluded, key=lambda excluded: excluded.reason):
        lines.append(f"  left out, {reason}: {', '.join(excluded.run for excluded in runs)}")
    return "\n".join([*lines, *(f"  ! {warning}" for warning in studied.warnings)])


def _allometry_text(exponents: "Allometry") -> str:
    lines = [f"{exponents.method}: N ~ C^{exponents.a:.4f}, D ~ C^{exponents.b:.4f}, from {exponents.used} optima"]
    for optimum in exponents.optima:
        lines.append(
            f"  C {optimum.flops:.3g}: N {optimum.n_params:.3g}, D {optimum.num_tokens:.3g}, {optimum.metric:.4g}"
            + (f"  refused: {optimum.refusal}" if optimum.refusal else "")
        )
    return "\n".join(lines)
