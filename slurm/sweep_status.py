"""The status of a submitted sweep: the state of every stage, and what concerns all of them. Prints nothing.

How a state follows from files and the queue is in `slurm.stage_status`; how old an answer of the scheduler may be, in
`slurm.queue_cache`.
"""

import math
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from scaling.core.errors import UserError
from slurm.budget_limit import read_budget_limit
from slurm.controller_message import read_controller_message
from slurm.outstanding import any_unfinished, is_continued, left_unfinished
from slurm.queue_cache import QueueView, read_cached_queue
from slurm.scheduler import Scheduler
from slurm.stage_status import StageStatus, statuses
from slurm.submissions import Submissions


@dataclass(frozen=True)
class SweepStatus:
    """Where a sweep stands."""

    stages: list[StageStatus]
    continues: bool
    """Whether a job that continues the sweep is in the queue."""
    submitted: bool
    """Whether anything was ever submitted to a scheduler from this folder. Where not, the fields below are empty."""
    queue_age_seconds: float | None = None
    """Since the scheduler answered; None where it was not asked or never answered."""
    problem: str | None = None
    """Why the latest question to the scheduler has no answer; empty where it has one, None where it was not asked."""
    budget_gpu_hours: float | None = None
    controller_message: str | None = None
    """The last message of the job that continues the sweep."""

    @property
    def counts(self) -> dict[str, int]:
        """State -> number of stages."""
        return dict(Counter(stage.state for stage in self.stages))

    @property
    def gpu_hours(self) -> float:
        return sum(stage.gpu_hours for stage in self.stages)

    def to_document(self) -> dict[str, Any]:
        queue_fields = {"queue_age_seconds": self.queue_age_seconds, "problem": self.problem}
        limits = {"budget_gpu_hours": self.budget_gpu_hours, "controller": self.controller_message}
        return {
            **(queue_fields if self.problem is not None else {}),
            **(limits if self.submitted else {}),
            "goes_on": self.continues,
            "counts": self.counts,
            "gpu_hours": self.gpu_hours,
            "stages": [stage.to_document() for stage in self.stages],
        }


def sweep_status(out: Path) -> SweepStatus:
    """Reads the files of an output folder and asks the scheduler, if it was not asked just now. Raises UserError where
    the folder is none of a sweep, or a file is damaged."""
    if not (out / "runs").is_dir():
        raise UserError(f"{out}: no output folder of a sweep: it has no 'runs'")
    submissions, folder = Submissions(out).all(), out / "slurm"
    view, queue_age, problem = QueueView(age=math.inf, seen=0.0), None, None
    ended = (out / "outcome.json").exists() and not any_unfinished(out, submissions)
    if submissions and not ended:
        view = read_cached_queue(
            folder, Scheduler(folder), lambda latest_view: left_unfinished(out, submissions, latest_view)
        )
        queue_age, problem = round(view.age, 1) if view.seen else None, view.problem
    return SweepStatus(
        stages=statuses(out, submissions, view, _file_system_time(out)),
        continues=bool(submissions) and not ended and is_continued(submissions, view),
        submitted=bool(submissions),
        queue_age_seconds=queue_age,
        problem=problem,
        budget_gpu_hours=read_budget_limit(out) if submissions else None,
        controller_message=read_controller_message(out) if submissions else None,
    )


def _file_system_time(out: Path) -> float:
    """The present time by the clock that dates the files, which may be another machine's."""
    mark = out / "runs" / ".now"
    try:
        mark.touch()
        return mark.stat().st_mtime
    except OSError:
        return time.time()
