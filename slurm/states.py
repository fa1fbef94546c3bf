"""The state of one stage, derived from its files and from the scheduler's latest answer.

The files come first: a stage is done when its folder says so, whatever the scheduler says. Without accounting the
states are the same; with it, the note can say why a job has left the queue.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from scaling.core.attempts import Attempt, given_up
from scaling.core.stage_folder import StageFolder
from scaling.core.store import read_document
from slurm.cancellation import is_cancelled
from slurm.queue_cache import QueueView
from slurm.submissions import SubmittedStage

STALLED_SECONDS = 900.0
"""Seconds without an event after which an attempt counts as stalled; the first rank may draw samples or compute metrics
for minutes without one."""

State = Literal[
    "planned",
    "queued",
    "running",
    "stalled",
    "preempted",
    "retrying",
    "done",
    "diverged",
    "failed",
    "lost",
    "cancelled",
]
WAITING_STATES = ("PENDING", "REQUEUED", "REQUEUE_HOLD", "SPECIAL_EXIT")
"""SLURM's states of a job that does not run but is in the queue."""


@dataclass(frozen=True)
class SweepContext:
    """What the states of all stages of a sweep depend on."""

    view: QueueView
    now: float
    """The file system's time, in seconds since the epoch. The clocks of machines may differ from it."""
    is_continued: bool
    """Whether a job is in the queue that continues the sweep."""


def derive_state(
    folder: StageFolder,
    past_attempts: Sequence[Attempt],
    submitted: SubmittedStage | None,
    context: SweepContext,
) -> tuple[State, str]:
    """The state of a stage, and why it is in this state: in a few words, or the error message of a failure. `past` are
    its attempts, `submitted` is its latest submission. Raises UserError where a file is damaged."""
    if folder.complete:
        diverged_at = read_document(folder.record_path).get("diverged_at")
        return ("done", "") if diverged_at is None else ("diverged", f"loss not finite after {diverged_at} updates")
    if is_cancelled(folder):
        return "cancelled", ""
    if submitted is None:
        return _without_scheduler(folder, past_attempts, context.now)
    if submitted.job_id is not None and submitted.job_id in context.view.queue:
        return _in_queue(folder, past_attempts, submitted.job_id, context)
    return _not_in_queue(folder, past_attempts, submitted, context)


def event_log(folder: StageFolder, attempt: Attempt) -> Path:
    """The event log of the first rank."""
    return folder.path / f"events.{attempt.number:04d}.jsonl"


def _in_queue(
    folder: StageFolder, past_attempts: Sequence[Attempt], job_id: str, context: SweepContext
) -> tuple[State, str]:
    last = past_attempts[-1] if past_attempts else None
    slurm_state, reason = context.view.queue[job_id]
    if last is not None and _last_event_at(folder, last) > context.view.seen:  # the files are newer than the answer
        return _running(folder, last, job_id, context.now) if last.end == "silent" else _waiting(last, "")
    if slurm_state in WAITING_STATES:
        return _waiting(last, reason)
    return _running(folder, last, job_id, context.now)


def _not_in_queue(
    folder: StageFolder,
    past_attempts: Sequence[Attempt],
    submitted: SubmittedStage,
    context: SweepContext,
) -> tuple[State, str]:
    submission = submitted.submission
    if submission.answer == "pending" or submission.at >= context.view.seen:  # submitted after the queue was read
        return (
            ("retrying", f"submitted again after: {past_attempts[-1].end}")
            if past_attempts
            else ("queued", "submitted just now")
        )
    if reason := given_up(folder, past_attempts):
        return "failed", reason
    missing = [p for p in folder.stage().parents.values() if not StageFolder(folder.path.parent / p).complete]
    if missing:
        return "planned", f"waits for {missing[0]}"
    note = _why_not_in_queue(past_attempts, submitted.job_id, context.view)
    return ("retrying", f"{note}; the controller job submits it again") if context.is_continued else ("lost", note)


def _why_not_in_queue(past_attempts: Sequence[Attempt], job_id: str | None, view: QueueView) -> str:
    if job_id is None:
        return "the scheduler never accepted its job"
    final_state = view.ended.get(job_id, "")
    if final_state and final_state not in ("RUNNING", "PENDING", "COMPLETED"):
        return final_state
    return "its job left the queue" + (f" ({past_attempts[-1].end})" if past_attempts else "")


def _waiting(last: Attempt | None, reason: str) -> tuple[State, str]:
    if last is None:
        return "queued", reason
    if last.end in ("stopped", "silent", "out of time"):
        return "preempted", "; ".join(filter(None, (last.message or "killed", reason)))
    return "retrying", f"{last.end}: {_first_line(last.message)}"


def _running(folder: StageFolder, last: Attempt | None, job_id: str, now: float) -> tuple[State, str]:
    if last is None or last.end != "silent" or not last.job.startswith(f"{job_id}."):
        return "running", "starting"
    silent_seconds = now - _last_event_at(folder, last)
    if silent_seconds > STALLED_SECONDS:
        return "stalled", f"no event for {silent_seconds / 60:.0f} min"
    return "running", ""


def _without_scheduler(folder: StageFolder, past_attempts: Sequence[Attempt], now: float) -> tuple[State, str]:
    """The state of a stage that was never submitted: a process on this machine may work on it."""
    if not past_attempts:
        return "planned", ""
    if past_attempts[-1].end == "silent" and folder.is_worked_on():
        return _running(folder, past_attempts[-1], past_attempts[-1].job.partition(".")[0], now)
    if reason := given_up(folder, past_attempts):
        return "failed", reason
    return "lost", f"its attempt ended: {past_attempts[-1].end}"


def _last_event_at(folder: StageFolder, attempt: Attempt) -> float:
    """Time of the latest event of an attempt, or of its start, by the file system's clock."""
    for path in (event_log(folder, attempt), folder.path / "attempts" / f"{attempt.number:04d}.json"):
        if path.exists():
            return path.stat().st_mtime
    return 0.0


def _first_line(text: str) -> str:
    return text.strip().splitlines()[0] if text.strip() else ""
