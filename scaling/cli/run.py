"""`scaling run SWEEP`: a sweep on this machine, from videos to a report."""

import argparse
import json
from pathlib import Path
from typing import Any


def add_parser(subparsers: Any) -> None:
    """Adds the verb to the command line."""
    parser = subparsers.add_parser(
        "run",
        help="run a sweep here, skipping what is done",
        description="Trains a sweep's models on this machine, foretells the target run, trains it, and writes the "
        "report.",
        epilog="examples:\n  scaling run demo --out out\n  scaling run my_sweep.yaml --out out --json",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("sweep", metavar="SWEEP", help="a YAML file, or the name of a shipped sweep")
    parser.add_argument("--out", type=Path, metavar="DIR", help="output folder (default: the sweep's name)")
    parser.add_argument("--json", action="store_true", help="print the result as one JSON object")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Runs the sweep. Raises UserError."""
    from sweeps.spec import load_sweep

    sweep = load_sweep(args.sweep)
    return tell_and_print(sweep, args.out or Path(sweep.name), f"scaling run {args.sweep}", args.json)


def tell_and_print(sweep: Any, out: Path, command: str, as_json: bool) -> int:
    """Tells the story and prints its outcome, for people or as one JSON object."""
    from slurm.run_local import run_sweep
    from sweeps.result import summary

    outcome = run_sweep(sweep, out, (f"{command} --out {out.name}",))
    print(json.dumps(outcome.to_document()) if as_json else summary(outcome))
    return 0
