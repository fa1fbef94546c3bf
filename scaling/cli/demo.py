"""`scaling demo`: the whole story on this machine, small, from nothing."""

import argparse
from pathlib import Path
from typing import Any


def add_parser(subparsers: Any) -> None:
    """Adds the verb to the command line."""
    parser = subparsers.add_parser(
        "demo",
        help="the whole story on this machine, small, from nothing",
        description="Makes videos, trains a VAE and a ladder of diffusion transformers, foretells the 32x run, "
        "trains it, and writes the page that shows base, 4x and 32x compute side by side. "
        "Run again, it finds what is done.",
        epilog="example: scaling demo --out demo",
    )
    parser.add_argument("--out", type=Path, default=Path("demo"), metavar="DIR", help="output folder (default: demo)")
    parser.add_argument(
        "--tiny", action="store_true", help="a shortened story, for tests: every stage, a minute of training"
    )
    parser.add_argument("--json", action="store_true", help="print the result as one JSON object")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Runs the shipped sweep `demo`. Raises UserError."""
    from scaling.cli.run import run_and_print
    from sweeps.load import load_sweep

    sweep = load_sweep("tiny" if args.tiny else "demo")
    return run_and_print(sweep, args.out, "scaling demo --tiny" if args.tiny else "scaling demo", args.json)
