"""Compares our submissions with SLURM's queue: which arrays are in the queue, and what has to be corrected.

An array without an answer is looked up by its name; an array that SLURM accepted a second time is cancelled; a job that
SLURM holds because its node could not start it again is released.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from scaling.core.errors import UserError
from scaling.core.stage_folder import StageFolder
from slurm.scheduler import REASON_HELD, QueueRow, SchedulerDownError
from slurm.scheduler_retry import SETTLE_SECONDS, Retrier
from slurm.submissions import Submission, Submissions


@dataclass(frozen=True)
class QueuedArray:
    """A submission that has a job in the queue."""

    submission: Submission
    stages: tuple[str, ...]
    """Its stages whose jobs are in the queue."""

    @property
    def array(self) -> str:
        assert self.submission.array is not None
        return self.submission.array


def reconcile(submissions: Submissions, runs: Path, retrier: Retrier) -> list[QueuedArray]:
    """The arrays of one output folder that are in the queue, after the corrections. The caller must hold the lock of
    the submissions. Raises SchedulerDownError."""
    known, scheduler = submissions.all(), retrier.scheduler
    if not known:
        return []
    queue = retrier.ask(scheduler.queue)
    if any(submission.answer == "pending" for submission in known):
        queue = _settled_queue(known, retrier)
        known = [_answered(submission, queue, submissions, retrier) for submission in known]
    _cancel_duplicates(known, queue, retrier)
    _release_held(known, queue, retrier)
    queued = _in_queue(known, queue)
    names = {array.submission.name for array in queued}
    for submission, stages in _expected(known, runs):
        if submission.name in names or submission.array is None:
            continue
        if retrier.ask(partial(scheduler.is_known, submission.array, submission.name)):  # squeue left it out
            queued.append(QueuedArray(submission, stages))
    return queued


def read_queue(submissions: Submissions, retrier: Retrier) -> list[QueuedArray]:
    """The arrays that are in the queue, without corrections; none where the scheduler does not answer. For a dry
    run."""
    known = submissions.all()
    try:
        return _in_queue(known, retrier.scheduler.queue()) if known else []
    except (UserError, SchedulerDownError):
        return []


def _in_queue(known: Sequence[Submission], queue: Sequence[QueueRow]) -> list[QueuedArray]:
    rows = {(row.job_id, row.name) for row in queue}
    arrays = []
    for submission in known:
        present = [(job_id, submission.name) in rows for job_id in submission.job_ids]
        if any(present):
            stages = [stage for stage, is_there in zip(submission.stages, present, strict=False) if is_there]
            arrays.append(QueuedArray(submission, tuple(stages)))
    return arrays


def _expected(known: Sequence[Submission], runs: Path) -> list[tuple[Submission, tuple[str, ...]]]:
    """The submissions that the queue should hold, with their unfinished stages: the newest for each stage that is not
    complete, and the newest of each role that continues the sweep."""
    newest_of_stage = {stage: submission.name for submission in known for stage in submission.stages}
    newest_of_role = {submission.role: submission.name for submission in known}
    expected = []
    for submission in known:
        unfinished = tuple(
            stage
            for stage in submission.stages
            if newest_of_stage[stage] == submission.name and not StageFolder(runs / stage).complete
        )
        is_newest = not submission.runs_stages and newest_of_role[submission.role] == submission.name
        if unfinished or is_newest:
            expected.append((submission, unfinished))
    return expected


def _settled_queue(known: Sequence[Submission], retrier: Retrier) -> list[QueueRow]:
    """The queue, read when SLURM's controller has had time for the newest submission without an answer."""
    newest = max(submission.at for submission in known if submission.answer == "pending")
    if (age := retrier.scheduler.clock() - newest) < SETTLE_SECONDS:
        retrier.sleep(SETTLE_SECONDS - max(0.0, age))
    return retrier.ask(retrier.scheduler.queue)


def _answered(
    submission: Submission, queue: Sequence[QueueRow], submissions: Submissions, retrier: Retrier
) -> Submission:
    """The submission with the answer that the queue gives, if it had none: where its name is not in the queue, the
    array was never accepted or has already ended."""
    if submission.answer != "pending":
        return submission
    arrays = sorted({row.array for row in queue if row.name == submission.name}, key=int)
    if arrays:
        retrier.say(f"the scheduler had accepted {submission.name} as {arrays[0]} without answering")
    updated = submission.accepted(arrays[0]) if arrays else submission.never_accepted()
    submissions.write(updated)
    return updated


def _cancel_duplicates(known: Sequence[Submission], queue: Sequence[QueueRow], retrier: Retrier) -> None:
    arrays = {submission.name: submission.array for submission in known}
    duplicates = sorted({row.array for row in queue if row.name in arrays and arrays[row.name] != row.array})
    if duplicates:
        retrier.say(f"cancelling {', '.join(duplicates)}, which the scheduler accepted a second time")
        retrier.ask(lambda: retrier.scheduler.cancel(duplicates))


def _release_held(known: Sequence[Submission], queue: Sequence[QueueRow], retrier: Retrier) -> None:
    names = {submission.name for submission in known}
    held = [row.job_id for row in queue if row.reason == REASON_HELD and row.name in names]
    if held:
        retrier.say(f"releasing {', '.join(held)}, which SLURM holds because a node could not start it again")
        retrier.ask(lambda: retrier.scheduler.release(held))
