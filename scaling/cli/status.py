"""`scaling status OUT`: one table of a sweep's stages, from its files and from the scheduler's queue."""

import json
import time
from collections import Counter
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from scaling.cli.options import Json, SweepFolder

if TYPE_CHECKING:
    from slurm.stage_status import StageStatus
    from slurm.sweep_status import SweepStatus

WATCH_SECONDS = 5.0
"""Between two readings of the files; the scheduler is asked less often."""
MOST_ROWS = 40
"""With more stages, those that need no attention are counted, not listed."""
FINAL = ("done", "diverged", "failed", "cancelled")
QUIET = ("planned", "queued", "done")
"""States that need no attention."""


def run(
    out: SweepFolder,
    /,
    *,
    every_stage: Annotated[bool, Parameter("--all", help="list every stage, however many there are")] = False,
    watch: Annotated[bool, Parameter(help="print again every few seconds, until no stage can change")] = False,
    as_json: Json = False,
) -> int:
    """Prints the state of every stage, derived from the files in the output folder and from squeue, which is asked at
    most every 30 s however many users print a status. Where there is accounting, sacct says why a job ended.

    examples:
      scaling status base_4x_32x
      scaling status base_4x_32x --watch
      scaling status base_4x_32x --json
    """
    from slurm.sweep_status import sweep_status

    while True:
        status = sweep_status(out)
        if as_json:
            print(json.dumps(status.to_document()), flush=True)
        else:
            text = "\n".join([*_table(status.stages, every_stage=every_stage), *_footer(status)])
            print(f"\033[H\033[J{text}" if watch else text, flush=True)
        if not watch or (all(stage.state in FINAL for stage in status.stages) and not status.continues):
            return 0
        time.sleep(WATCH_SECONDS)


def _table(stages: "list[StageStatus]", *, every_stage: bool) -> list[str]:
    """A line for each stage; of many, those in quiet states are counted by kind."""
    quiet = Counter[tuple[str, str, str]]()
    numbers = f"{'step':>15}{'loss':>8}{'tokens/s':>10}{'MFU':>6}{'left':>8}"
    lines = [f"{'stage':18}{'compute':9}{'state':11}{numbers}  job and note"]
    for stage in stages:
        if not every_stage and len(stages) > MOST_ROWS and stage.state in QUIET:
            quiet[stage.kind, stage.compute, stage.state] += 1
            continue
        lines.append(_row(stage))
    for (kind, compute, state), count in quiet.items():
        lines.append(f"{kind:18}{compute:9}{state:11}{count:>8} stages")
    return lines


def _row(stage: "StageStatus") -> str:
    step = f"{stage.step}/{stage.total}" if stage.total else "-"
    loss = f"{stage.loss:.4f}" if stage.loss is not None else "-"
    speed = f"{stage.tokens_per_second:,.0f}" if stage.tokens_per_second is not None else "-"
    mfu = f"{stage.mfu:.0%}" if stage.mfu is not None else "-"
    note = stage.note.strip().splitlines()[-1] if stage.note.strip() else ""
    attempt = f"attempt {stage.attempts}" if stage.attempts > 1 else ""
    notes = "; ".join(part for part in (stage.job, attempt, note) if part)
    numbers = f"{step:>15}{loss:>8}{speed:>10}{mfu:>6}{_time_left(stage):>8}"
    return f"{stage.slug:18}{stage.compute:9}{stage.state:11}{numbers}  {notes}".rstrip()


def _time_left(stage: "StageStatus") -> str:
    if stage.eta_seconds is None:
        return "-"
    minutes = stage.eta_seconds / 60
    return f"{minutes:.0f} min" if minutes < 100 else f"{minutes / 60:.0f} h"


def _footer(status: "SweepStatus") -> list[str]:
    """Counts and hours, how old the scheduler's answer is, and the last message of the job that continues the sweep."""
    counts = ", ".join(f"{count} {state}" for state, count in status.counts.items())
    limit = f" of {status.budget_gpu_hours:g}" if status.budget_gpu_hours else ""
    lines = [f"{len(status.stages)} stages: {counts}; {status.gpu_hours:.3g} GPU-hours{limit}"]
    if status.queue_age_seconds is not None:
        lines.append(f"the scheduler was asked {max(0.0, status.queue_age_seconds):.0f} s ago")
    if status.problem:
        lines.append(f"the scheduler's latest answer: {status.problem}")
    if status.controller_message:
        lines.append(f"last message of the job that continues the sweep: {status.controller_message}")
    return lines
