"""`scaling cancel OUT [RUN ...]`: takes jobs out of the queue; what they have done stays."""

import argparse
import sys
from functools import partial
from pathlib import Path
from typing import Any

DONE = ("done", "diverged")


def add_parser(subparsers: Any) -> None:
    """Adds the verb to the command line."""
    parser = subparsers.add_parser(
        "cancel",
        help="take a sweep's jobs, or some of them, out of the queue",
        description="Cancels jobs. Their stages are not tried again until 'scaling retry' says so; checkpoints stay.",
        epilog="examples:\n  scaling cancel base_4x_32x\n  scaling cancel base_4x_32x dit-w384d12@4x",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("out", type=Path, metavar="OUT", help="output folder of a sweep")
    parser.add_argument(
        "runs", nargs="*", metavar="RUN", help="ids, or SLUG@COMPUTE (default: all, and the controller job)"
    )
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Cancels and says what. Raises UserError."""
    from scaling.cli.selection import chosen
    from scaling.cli.status import collect
    from slurm import request
    from slurm.scheduler import Scheduler
    from slurm.submit import Launcher

    asked, found = request.load(args.out), {one.id: one for one in collect(args.out)[0]}
    open_ones = [stage for stage in chosen(found, args.runs) if found[stage].state not in DONE]
    launcher = Launcher(
        args.out, asked.cluster, Scheduler(args.out / "slurm"), say=partial(print, file=sys.stderr, flush=True)
    )
    elements = launcher.cancel(open_ones, whole_sweep=not args.runs)
    print(f"{len(open_ones)} stages cancelled, {len(elements)} jobs taken out of the queue")
    return 0
