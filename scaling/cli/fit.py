"""`scaling fit`: a law with intervals, from our runs or from anybody's table."""

import argparse
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from scaling.errors import UserError

if TYPE_CHECKING:
    from analysis.law import Fit

EXAMPLES = """examples:
  scaling fit runs/
  scaling fit others.csv --drop-top 5 --json
  scaling fit runs/ --plot law.svg"""


def add_parser(subparsers: Any) -> None:
    parser = subparsers.add_parser(
        "fit",
        help="fit a scaling law to runs or to a table",
        description="Fits L(N, D) = E + A/N^alpha + B/D^beta and bootstraps its parameters.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "table",
        type=Path,
        metavar="TABLE|RUNS",
        help="CSV, Parquet, JSON or JSONL with n_params, num_tokens (or train_flops) and val_loss (or loss); "
        "or a folder of runs",
    )
    parser.add_argument("--law", choices=["chinchilla"], default="chinchilla", help="form of the law")
    parser.add_argument("--drop-top", type=int, default=0, metavar="K", help="leave out the K highest losses")
    parser.add_argument("--bootstrap", type=int, default=200, metavar="N", help="resamples; 0 for no intervals")
    parser.add_argument("--seed", type=int, default=0, help="seed of the bootstrap")
    parser.add_argument("--plot", type=Path, metavar="FILE", help="draw fit and residuals to .png, .svg or .pdf")
    parser.add_argument("--json", action="store_true", help="print the result as JSON")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Fits, prints, and draws if asked. Raises UserError where the table or an option cannot be used."""
    from analysis.intervals import law_intervals
    from analysis.law import fit_law
    from analysis.table import read_table

    for option in ("drop_top", "bootstrap", "seed"):
        if getattr(args, option) < 0:
            raise UserError(f"--{option.replace('_', '-')} is {getattr(args, option)}, but must not be negative")
    table = read_table(args.table)
    dropped = table["loss"].nlargest(args.drop_top).index
    excluded = table["run_id"][dropped].tolist()
    table = table.drop(index=dropped)
    points = table["n_params"], table["num_tokens"], table["loss"]
    try:
        fit = fit_law(*points, runs=tuple(table["run_id"]))
    except UserError as problem:
        raise UserError(f"{args.table}: {problem}") from None
    intervals = law_intervals(fit, *points, draws=args.bootstrap, seed=args.seed) if args.bootstrap else {}
    if args.plot:
        from analysis.figures import law_figure, save_one

        save_one(law_figure(fit, *points), args.plot)
        print(f"wrote {args.plot}", file=sys.stderr)
    result = {
        "law": args.law,
        "params": fit.params,
        "a": fit.a,
        "b": fit.b,
        "objective": fit.objective,
        "status": fit.status,
        "reason": fit.reason,
        "n_points": len(fit.residuals),
        "excluded": excluded,
        "intervals": intervals,
    }
    print(json.dumps(result, indent=1, allow_nan=False) if args.json else _text(fit, intervals, excluded))
    return 0


def _text(fit: "Fit", intervals: dict[str, tuple[float, float]], excluded: list[str]) -> str:
    from analysis.intervals import LEVEL

    lines = [f"L(N, D) = E + A/N^alpha + B/D^beta, {len(fit.residuals)} points, {fit.status}"]
    if fit.reason:
        lines.append(f"  ! {fit.reason}")
    for name, value in {**fit.params, "a": fit.a, "b": fit.b}.items():
        low, high = intervals.get(name, (None, None))
        lines.append(
            f"  {name:6} {value:<10.5g}" + (f" {LEVEL:.0%} [{low:.4g}, {high:.4g}]" if low is not None else "")
        )
    lines.append(f"  objective {fit.objective:.6g} (sum of Huber losses of log residuals, delta {fit.delta:g})")
    if excluded:
        lines.append(f"  left out: {', '.join(excluded)}")
    return "\n".join(lines)
