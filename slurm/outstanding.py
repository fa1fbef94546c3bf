"""What is still outstanding of the submissions of an output folder: stages that are not complete, and jobs that
continue the sweep."""

from collections.abc import Sequence
from pathlib import Path

from scaling.core.stage_folder import StageFolder
from slurm.queue_cache import QueueView
from slurm.submissions import Submission


def any_unfinished(out: Path, submissions: Sequence[Submission]) -> bool:
    """Whether a stage that was submitted is not complete. Otherwise there is no reason to ask the scheduler."""
    stages = {stage for submission in submissions for stage in submission.stages}
    return any(not StageFolder(out / "runs" / stage).complete for stage in stages)


def left_unfinished(out: Path, submissions: Sequence[Submission], view: QueueView) -> list[str]:
    """The arrays of which a job has left the queue without its stage being complete: accounting may know why."""
    return sorted(
        {
            submission.array
            for submission in submissions
            if submission.array is not None and submission.at < view.seen
            for stage, job_id in zip(submission.stages, submission.job_ids, strict=False)
            if job_id not in view.queue and not StageFolder(out / "runs" / stage).complete
        }
    )


def is_continued(submissions: Sequence[Submission], view: QueueView) -> bool:
    """Whether a job that continues the sweep is in the queue, or was submitted after the queue was read."""
    controllers = [submission for submission in submissions if not submission.runs_stages and submission.array]
    return any(
        submission.at > view.seen or any(job_id in view.queue for job_id in submission.job_ids)
        for submission in controllers
    )
