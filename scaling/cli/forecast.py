"""`scaling forecast`: what a budget will buy, said before it is spent."""

import argparse
import json
import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

from scaling.errors import UserError

if TYPE_CHECKING:
    from analysis.forecast import Forecast

EXAMPLES = """examples:
  scaling forecast runs/ --flops 5e13
  scaling forecast runs/ --flops 5e13 --json > forecast.json"""


def add_parser(subparsers: Any) -> None:
    parser = subparsers.add_parser(
        "forecast",
        help="predict the best run at a larger compute",
        description="Predicts size and validation loss of the best run at a compute, from the runs with less compute.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("runs", type=Path, metavar="RUNS", help="folder of runs")
    parser.add_argument("--flops", type=float, required=True, metavar="C", help="training FLOPs, such as 5e13")
    parser.add_argument("--seed", type=int, default=0, help="seed of the noisy copies")
    parser.add_argument("--json", action="store_true", help="print the forecast as JSON")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Prints the forecast. Raises UserError where the runs cannot carry one."""
    from analysis.forecast import forecast
    from analysis.table import read_runs

    if not (math.isfinite(args.flops) and args.flops > 0):
        raise UserError(f"--flops is {args.flops}, but must be a positive number")
    if args.seed < 0:
        raise UserError(f"--seed is {args.seed}, but must not be negative")
    found = forecast(read_runs(args.runs), args.flops, seed=args.seed)
    print(json.dumps(found.to_document(), indent=1, allow_nan=False) if args.json else _text(found))
    return 0


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
