"""Submits job arrays one after another, and collects the result. Not which arrays (`slurm.arrays`, `slurm.submit`)."""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from scaling.core.errors import UserError
from scaling.core.stage_folder import StageFolder
from slurm import batch
from slurm.arrays import StageJob
from slurm.batch import JobArray
from slurm.cluster import SlurmCluster
from slurm.scheduler import FullError, RefusedError
from slurm.scheduler_retry import Retrier
from slurm.submissions import Role, Submission, Submissions

WRITERS = 16
"""Number of specs that are written at a time: each write waits for the disk."""

Function = Callable[[str], object]
"""What Submitit calls in a job, with the path of a stage or of the output folder."""


@dataclass
class SubmitResult:
    """What a launcher has submitted, and what it has not."""

    submitted: list[Submission] = field(default_factory=list)
    in_queue: list[str] = field(default_factory=list)
    """Ids of the stages that were in the queue before."""
    blocked: dict[str, str] = field(default_factory=dict)
    """Stages that are not tried again: id -> why, or which blocked parent they wait for."""
    scripts: list[str] = field(default_factory=list)
    """Batch scripts that a dry run would have submitted."""
    queue_full: str = ""
    """SLURM's message where it accepts no more jobs at the moment; empty otherwise."""


class ArraySubmitter:
    """Submits the arrays of one sweep to one cluster."""

    def __init__(
        self,
        out: Path,
        cluster: SlurmCluster,
        submissions: Submissions,
        retrier: Retrier,
        result: SubmitResult,
        arrays: dict[str, str],
        *,
        dry_run: bool,
    ) -> None:
        """`result` and `arrays`, the number of the array of every stage in the queue, are completed with every
        array."""
        self.out, self.cluster, self.submissions, self.retrier = out, cluster, submissions, retrier
        self.result, self.arrays, self.dry_run = result, arrays, dry_run

    def submit_stages(self, array: JobArray, jobs: Sequence[StageJob], function: Function) -> bool:
        """Submits an array whose jobs do these stages. False where the scheduler accepts no more jobs."""
        submission = Submission(
            name=array.name,
            role="stages",
            stages=tuple(job.id for job in jobs),
            gpus=array.resources.gpus,
            gpu_hours=tuple(job.gpu_hours for job in jobs),
            at=self.retrier.scheduler.clock(),
        )
        number = self._submit(submission, array, function, [self.out / "runs" / job.id for job in jobs], jobs)
        if number is not None:
            self.arrays.update(dict.fromkeys(submission.stages, number))
        return number is not None

    def submit_controller(self, array: JobArray, role: Role, function: Function) -> bool:
        """Submits a job that continues the sweep. False where the scheduler accepts no more jobs."""
        submission = Submission(
            name=array.name, role=role, gpus=array.resources.gpus, at=self.retrier.scheduler.clock()
        )
        return self._submit(submission, array, function, [self.out], []) is not None

    def _submit(
        self, submission: Submission, array: JobArray, function: Function, paths: list[Path], jobs: Sequence[StageJob]
    ) -> str | None:
        """The number of the array, a name in its place in a dry run, or None where the scheduler accepts no more
        jobs."""
        folder = self.submissions.jobs_folder(submission)
        text = batch.script(array, self.cluster, folder)
        if self.dry_run:
            self.result.scripts.append(text)
            return f"<{array.name}>"
        with ThreadPoolExecutor(WRITERS) as pool:
            list(pool.map(lambda job: StageFolder.create(self.out / "runs", job.placed(self.cluster)), jobs))
        script = batch.write(text, folder, function, paths)
        self.submissions.write(submission)
        try:
            number = self.retrier.submit(submission.name, script)
        except FullError as full:
            self.submissions.withdraw(submission)
            self._note_full(full, len(jobs))
            return None
        except RefusedError as refusal:
            self.submissions.withdraw(submission)
            raise UserError(f"cluster {self.cluster.name}: sbatch refuses: {refusal}") from None
        accepted = submission.accepted(number)
        self.submissions.write(accepted)
        self.result.submitted.append(accepted)
        return number

    def _note_full(self, full: FullError, size: int) -> None:
        """Raises UserError where no job of a stage is in the queue: then waiting does not help, the array is too
        long."""
        result = self.result
        result.queue_full = str(full)
        if size > 1 and not result.in_queue and not any(array.runs_stages for array in result.submitted):
            raise UserError(
                f"cluster {self.cluster.name}: the scheduler takes no array of {size} jobs ({full}): "
                "give a smaller max_array_size"
            ) from None
        self.retrier.say(f"the scheduler accepts no more jobs at the moment ({full}); the rest is submitted later")
