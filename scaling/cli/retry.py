"""`scaling retry OUT [RUN ...]`: tries failed, lost and cancelled stages again, as if they had never failed."""

import argparse
import sys
from functools import partial
from pathlib import Path
from typing import Any

TRIED_AGAIN = ("failed", "lost", "cancelled")


def add_parser(subparsers: Any) -> None:
    """Adds the verb to the command line."""
    parser = subparsers.add_parser(
        "retry",
        help="try failed, lost and cancelled stages again",
        description="Resets the failures of stages and submits what is missing. They continue from their checkpoints.",
        epilog="examples:\n  scaling retry base_4x_32x\n  scaling retry base_4x_32x dit-w384d12@4x",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("out", type=Path, metavar="OUT", help="output folder of a sweep")
    parser.add_argument("runs", nargs="*", metavar="RUN", help="ids, or SLUG@COMPUTE (default: all that can be)")
    parser.add_argument("--json", action="store_true", help="print what was submitted as one JSON object")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Resets failures and submits. Raises UserError."""
    from scaling.cli.selection import chosen
    from scaling.cli.status import collect
    from scaling.cli.submit import print_step
    from scaling.core.attempts import reset_failures
    from scaling.core.errors import UserError
    from scaling.core.stage import StageFolder
    from slurm import request
    from slurm.cancellation import cancel_mark
    from slurm.controller_job import advance

    asked, found = request.load(args.out), {one.id: one for one in collect(args.out)[0]}
    picked = [stage for stage in chosen(found, args.runs) if found[stage].state in TRIED_AGAIN]
    if args.runs and not picked:
        raise UserError(f"{', '.join(args.runs)}: neither failed nor lost nor cancelled; nothing to try again")
    for stage in picked:
        folder = StageFolder(args.out / "runs" / stage)
        cancel_mark(folder).unlink(missing_ok=True)
        reset_failures(folder)
    return print_step(args.out, advance(args.out, asked, say=partial(print, file=sys.stderr, flush=True)), args.json)
