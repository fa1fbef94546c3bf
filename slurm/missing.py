"""Which stages of a sweep need a job: those that are not complete and not in the queue, and that are worth trying."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from scaling.core.attempts import SILENT_LIMIT, Attempt, attempts, failures_reset_at, given_up
from scaling.core.stage_folder import StageFolder
from slurm.arrays import StageJob
from slurm.cancellation import is_cancelled
from slurm.reconcile import QueuedArray
from slurm.submissions import Submission


@dataclass
class Missing:
    """The stages of a sweep that are not complete."""

    to_submit: list[StageJob] = field(default_factory=list)
    """Jobs of the stages that need one."""
    in_queue: list[str] = field(default_factory=list)
    """Ids of the stages that have a job in the queue."""
    blocked: dict[str, str] = field(default_factory=dict)
    """Stages that are not tried again: id -> why, or which blocked parent they wait for."""


def missing_stages(
    jobs: Sequence[StageJob], runs: Path, queued: Sequence[QueuedArray], known: Sequence[Submission]
) -> Missing:
    """Divides the stages that are not complete. `jobs` come parents first; `queued` are the arrays in the queue,
    `known` all submissions."""
    queued_stages = {stage for array in queued for stage in array.stages}
    missing = Missing()
    for job in jobs:
        folder = StageFolder(runs / job.id)
        if folder.complete:
            continue
        blocked_parents = [parent for parent in job.stage.parents.values() if parent in missing.blocked]
        if job.id in queued_stages:
            missing.in_queue.append(job.id)
        elif blocked_parents:
            missing.blocked[job.id] = f"waits for {blocked_parents[0]}"
        elif (reason := _reason_not_to_try(folder, known)) is not None:
            missing.blocked[job.id] = reason
        else:
            missing.to_submit.append(job)
    return missing


def _reason_not_to_try(folder: StageFolder, known: Sequence[Submission]) -> str | None:
    if is_cancelled(folder):
        return "cancelled"
    past_attempts = attempts(folder)
    return given_up(folder, past_attempts) or _never_started(folder, known, past_attempts)


def _never_started(folder: StageFolder, known: Sequence[Submission], past_attempts: Sequence[Attempt]) -> str | None:
    """Why another job makes no sense where several jobs ended before they started to work: without the right Python, or
    on nodes that do not see the folder."""
    stage, reset_at = folder.path.name, failures_reset_at(folder)
    if not folder.spec_path.exists():
        return None
    job_ids = [
        submission.job_id(stage) for submission in known if stage in submission.stages and submission.at > reset_at
    ]
    worked = {attempt.job.partition(".")[0] for attempt in past_attempts}
    idle = [job_id for job_id in job_ids if job_id is not None and job_id not in worked]
    parents = [StageFolder(folder.path.parent / parent) for parent in folder.stage().parents.values()]
    if len(idle) < SILENT_LIMIT or not all(parent.complete for parent in parents):
        return None
    return f"{len(idle)} jobs, the latest {idle[-1]}, ended before they started to work; see 'scaling logs'"
