"""`scaling logs OUT RUN`: what a stage's latest job printed."""

import argparse
import time
from pathlib import Path
from typing import Any

FOLLOW_SECONDS = 1.0


def add_parser(subparsers: Any) -> None:
    """Adds the verb to the command line."""
    parser = subparsers.add_parser(
        "logs",
        help="what a stage's latest job printed",
        description="Prints the end of what a stage's latest job printed, and of its events.",
        epilog="examples:\n  scaling logs base_4x_32x dit-w384d12@4x\n  scaling logs base_4x_32x vae --follow\n"
        "  scaling logs base_4x_32x controller",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("out", type=Path, metavar="OUT", help="output folder of a sweep")
    parser.add_argument("stage", metavar="RUN", help="id, the beginning of one, SLUG@COMPUTE, or 'controller'")
    parser.add_argument("--rank", type=int, default=0, metavar="K", help="of a run on several GPUs (default: 0)")
    parser.add_argument("--lines", type=int, default=40, metavar="N", help="how many of each file (default: 40)")
    parser.add_argument("--follow", action="store_true", help="go on printing what is added")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Prints the logs. Raises UserError where there are none."""
    from scaling.core.errors import UserError

    files = _files(args.out, args.stage, args.rank)
    if not files:
        raise UserError(f"{args.stage}: it has printed nothing yet; 'scaling status {args.out}' says where it stands")
    ends: dict[Path, int] = {}
    for path in files:
        content = path.read_bytes()
        ends[path] = len(content)
        print(f"==> {path} <==")
        print("\n".join(content.decode(errors="replace").splitlines()[-max(1, args.lines) :]), flush=True)
    while args.follow:
        time.sleep(FOLLOW_SECONDS)
        for path in files:
            with open(path, "rb") as file:
                file.seek(ends[path])
                added = file.read()
            ends[path] += len(added)
            if added:
                print(added.decode(errors="replace"), end="", flush=True)
    return 0


def _files(out: Path, name: str, rank: int) -> list[Path]:
    """Those of the latest job that there are."""
    from scaling.cli.selection import chosen
    from scaling.cli.status import collect
    from slurm.submissions import Submissions

    submissions = Submissions(out)
    if name == "controller":
        controllers = [submissions.jobs_folder(one) for one in submissions.all() if not one.runs_stages]
        logs = [sorted(path for path in job.glob("*_log.*") if path.stat().st_size) for job in controllers]
        return max(filter(None, logs), key=lambda each: each[0].stat().st_mtime, default=[])
    found = {one.id: one for one in collect(out)[0]}
    stage = found[chosen(found, [name])[0]]
    folder = out / "runs" / stage.id
    files = [*folder.glob(f"ranks/{rank}.log"), *folder.glob("jobs/*_log.*")]
    if stage.job:
        jobs = [one for one in submissions.all() if stage.id in one.stages]
        files = list(submissions.jobs_folder(jobs[-1]).glob(f"{stage.job}_{rank}_log.*"))
    who = f".rank-{rank}" if rank else ""
    files += sorted(folder.glob(f"events.[0-9]*{who}.jsonl"))[-1:]
    return [path for path in files if path.stat().st_size]
