"""`scaling status OUT`: one table of a sweep's stages, from its files and from what the scheduler says."""

import argparse
import json
import time
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from slurm.status import Status

WATCH_SECONDS = 5.0
"""Between two looks at the files; the scheduler is asked more rarely."""
MOST_ROWS = 40
"""Beyond so many, stages that nobody has to look at are counted, not listed."""
FINAL = ("done", "diverged", "failed", "cancelled")
QUIET = ("planned", "queued", "done")


def add_parser(subparsers: Any) -> None:
    """Adds the verb to the command line."""
    parser = subparsers.add_parser(
        "status",
        help="where every stage of a sweep stands",
        description="Derives the state of every stage from the files in the output folder and from squeue, which is "
        "asked at most every 30 s by all who look; from sacct why a job is gone, where there is accounting.",
        epilog="examples:\n  scaling status base_4x_32x\n  scaling status base_4x_32x --watch\n"
        "  scaling status base_4x_32x --json",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("out", type=Path, metavar="OUT", help="output folder of a sweep")
    parser.add_argument("--all", action="store_true", help="list every stage, however many there are")
    parser.add_argument("--watch", action="store_true", help="look again every few seconds, until all is done")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Prints the table. Raises UserError."""
    while True:
        found, facts = collect(args.out)
        if args.json:
            print(json.dumps({**facts, "stages": [status.to_document() for status in found]}), flush=True)
        else:
            text = "\n".join([*table(found, everything=args.all), *footer(found, facts)])
            print(f"\033[H\033[J{text}" if args.watch else text, flush=True)
        if not args.watch or (all(status.state in FINAL for status in found) and not facts["goes_on"]):
            return 0
        time.sleep(WATCH_SECONDS)


def collect(out: Path) -> "tuple[list[Status], dict[str, Any]]":
    """The stages, and what concerns all of them. Raises UserError."""
    from scaling.core.errors import UserError
    from slurm.budget_limit import read_budget_limit
    from slurm.controller_message import read_controller_message
    from slurm.outstanding import any_unfinished, is_continued, left_unfinished
    from slurm.queue_cache import QueueView, read_cached_queue
    from slurm.scheduler import Scheduler
    from slurm.status import statuses
    from slurm.submissions import Submissions

    if not (out / "runs").is_dir():
        raise UserError(f"{out}: no output folder of a sweep: it has no 'runs'")
    submissions, folder = Submissions(out).all(), out / "slurm"
    view, facts = QueueView(age=float("inf"), seen=0.0), dict[str, Any]()
    ended = (out / "outcome.json").exists() and not any_unfinished(out, submissions)
    if submissions and not ended:
        view = read_cached_queue(folder, Scheduler(folder), lambda seen: left_unfinished(out, submissions, seen))
        facts["queue_age_seconds"] = round(view.age, 1) if view.seen else None
        facts["problem"] = view.problem
    if submissions:
        facts["budget_gpu_hours"] = read_budget_limit(out)
        facts["controller"] = read_controller_message(out)
    facts["goes_on"] = bool(submissions) and not ended and is_continued(submissions, view)
    found = statuses(out, submissions, view, _file_time(out))
    facts["counts"] = dict(Counter(status.state for status in found))
    facts["gpu_hours"] = sum(status.gpu_hours for status in found)
    return found, facts


def _file_time(out: Path) -> float:
    """Now, by the clock that dates the files, which may be another machine's."""
    mark = out / "runs" / ".now"
    try:
        mark.touch()
        return mark.stat().st_mtime
    except OSError:
        return time.time()


def table(found: "list[Status]", *, everything: bool) -> list[str]:
    """A line for each stage; of many, those in quiet states are counted by kind."""
    quiet = Counter[tuple[str, str, str]]()
    numbers = f"{'step':>15}{'loss':>8}{'tokens/s':>10}{'MFU':>6}{'left':>8}"
    lines = [f"{'stage':18}{'compute':9}{'state':11}{numbers}  job and note"]
    for one in found:
        if not everything and len(found) > MOST_ROWS and one.state in QUIET:
            quiet[one.kind, one.compute, one.state] += 1
            continue
        lines.append(_row(one))
    for (kind, compute, state), count in quiet.items():
        lines.append(f"{kind:18}{compute:9}{state:11}{count:>8} stages")
    return lines


def _row(one: "Status") -> str:
    step = f"{one.step}/{one.total}" if one.total else "-"
    loss = f"{one.loss:.4f}" if one.loss is not None else "-"
    speed = f"{one.tokens_per_second:,.0f}" if one.tokens_per_second is not None else "-"
    mfu = f"{one.mfu:.0%}" if one.mfu is not None else "-"
    note = one.note.strip().splitlines()[-1] if one.note.strip() else ""
    tried = f"attempt {one.attempts}" if one.attempts > 1 else ""
    words = "; ".join(part for part in (one.job, tried, note) if part)
    return (
        f"{one.slug:18}{one.compute:9}{one.state:11}{step:>15}{loss:>8}{speed:>10}{mfu:>6}{_left(one):>8}  {words}"
    ).rstrip()


def _left(one: "Status") -> str:
    if one.eta_seconds is None:
        return "-"
    minutes = one.eta_seconds / 60
    return f"{minutes:.0f} min" if minutes < 100 else f"{minutes / 60:.0f} h"


def footer(found: "list[Status]", facts: dict[str, Any]) -> list[str]:
    """Counts, hours, and the messages of the scheduler and the controller job."""
    counts = ", ".join(f"{count} {state}" for state, count in facts["counts"].items())
    limit = facts.get("budget_gpu_hours")
    lines = [f"{len(found)} stages: {counts}; {facts['gpu_hours']:.3g} GPU-hours" + (f" of {limit:g}" if limit else "")]
    if facts.get("queue_age_seconds") is not None:
        lines.append(f"the scheduler was asked {max(0.0, facts['queue_age_seconds']):.0f} s ago")
    if facts.get("problem"):
        lines.append(f"the scheduler's latest answer: {facts['problem']}")
    if facts.get("controller"):
        lines.append(f"the controller job's message: {facts['controller']}")
    return lines
