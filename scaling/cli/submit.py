"""`scaling submit SWEEP --cluster CLUSTER`: a sweep on SLURM, from videos to a report, with nobody there."""

import argparse
import json
import math
import sys
from functools import partial
from pathlib import Path
from typing import Any


def add_parser(subparsers: Any) -> None:
    """Adds the verb to the command line."""
    parser = subparsers.add_parser(
        "submit",
        help="run a sweep on a SLURM cluster, skipping what is done",
        description="Submits what is missing of a sweep as job arrays, and a small job that goes on with it when they "
        "have ended: tries again what can be, submits the next round, writes the report. Submit again as often as you "
        "like: nothing is submitted twice.",
        epilog="examples:\n  scaling submit base_4x_32x --cluster my_cluster.yaml --budget-gpu-hours 4000\n"
        "  scaling submit base_4x_32x --cluster h100 --dry-run\n  scaling status base_4x_32x --watch",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("sweep", metavar="SWEEP", help="a YAML file, or the name of a shipped sweep")
    parser.add_argument("--cluster", required=True, help="a YAML file, or the name of a shipped cluster")
    parser.add_argument("--out", type=Path, metavar="DIR", help="output folder, shared by all nodes (default: SWEEP)")
    parser.add_argument(
        "--budget-gpu-hours", type=float, metavar="H", help="refuse what would take more (default: as before)"
    )
    parser.add_argument("--dry-run", action="store_true", help="print what sbatch would be given; submit nothing")
    parser.add_argument("--json", action="store_true", help="print what was submitted as one JSON object")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Submits, or prints what it would. Raises UserError."""
    from scaling.cli.run import tell_and_print
    from scaling.core.errors import UserError
    from slurm import preflight, request
    from slurm.cluster import LocalCluster, load_cluster
    from slurm.controller_job import advance
    from slurm.scheduler import Scheduler
    from slurm.submissions import Submissions
    from sweeps.spec import load_sweep

    sweep, cluster = load_sweep(args.sweep), load_cluster(args.cluster)
    out = (args.out or Path(sweep.name)).absolute()
    limit = args.budget_gpu_hours
    if limit is not None and not 0 < limit < math.inf:
        raise UserError(f"--budget-gpu-hours is {limit:g}: give a number above 0, or leave it out")
    command = f"scaling submit {args.sweep} --cluster {args.cluster}"
    if isinstance(cluster, LocalCluster):
        if args.dry_run:
            raise UserError("--dry-run: this machine has no scheduler; 'scaling plan' says what would run")
        if limit is not None:
            raise UserError("--budget-gpu-hours: this machine keeps no ledger; 'scaling plan' says what it will take")
        return tell_and_print(sweep, out, command, args.json)
    before = request.find(out)
    if before is not None and before.sweep.name != sweep.name:
        raise UserError(f"{out}: the sweep {before.sweep.name} was submitted from here; choose another --out")
    if limit is None and before is not None:
        limit = before.budget_gpu_hours
    asked = request.Request(sweep=sweep, cluster=cluster, budget_gpu_hours=limit, command=f"{command} --out {out.name}")
    if args.dry_run:
        return _print_scripts(
            advance(out, asked, dry_run=True, say=partial(print, file=sys.stderr, flush=True)), args.json
        )
    with Submissions(out).exclusive():
        preflight.check(cluster, Scheduler(out / "slurm"))
        request.save(out, asked)
    try:
        step = advance(out, asked, say=partial(print, file=sys.stderr, flush=True))
    except UserError:
        request.restore(out, before)
        raise
    return print_step(out, step, args.json)


def _print_scripts(step: Any, as_json: bool) -> int:
    if step.submitted is None:
        print(json.dumps({"scripts": []}) if as_json else "everything is done; nothing would be submitted")
    elif as_json:
        print(json.dumps({"round": step.round.title, "scripts": step.submitted.scripts}))
    else:
        for number, script in enumerate(step.submitted.scripts, start=1):
            print(f"# sbatch {number} of {len(step.submitted.scripts)}\n{script}\n")
    return 0


def print_step(out: Path, step: Any, as_json: bool) -> int:
    """Prints what a step came to, and gives the exit code."""
    from sweeps.result import summary

    if step.told is not None:
        print(json.dumps({"outcome": step.told.to_document()}) if as_json else summary(step.told))
        return 0
    done = step.submitted
    arrays = [one for one in done.submitted if one.runs_stages]
    jobs, hours = sum(len(one.stages) for one in arrays), sum(sum(one.gpu_hours) for one in arrays)
    if as_json:
        document = {
            "round": step.round.title,
            "jobs": jobs,
            "arrays": {one.array: list(one.stages) for one in arrays},
            "gpu_hours": hours,
            "in_queue": done.in_queue,
            "blocked": done.blocked,
            "full": done.queue_full,
        }
        print(json.dumps(document))
    else:
        said = f"{step.round.title}: {jobs} jobs in {len(arrays)} arrays submitted, {hours:.3g} GPU-hours"
        print(f"{said}; {len(done.in_queue)} were in the queue already" if done.in_queue else said)
        for stage, reason in list(done.blocked.items())[:10]:
            print(f"  not submitted: {stage}: {reason}")
        if len(done.blocked) > 10:
            print(f"  and {len(done.blocked) - 10} more; 'scaling status {out}' lists them")
        if done.blocked:
            print(f"'scaling retry {out}' tries them again, once what is wrong with them is mended")
        print(f"watch it with: scaling status {out} --watch")
    return 0 if jobs or done.in_queue else 1
