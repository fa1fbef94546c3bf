"""Submits stages to SLURM as job arrays: each stage once, however often and by however many processes this is called,
and whatever fails meanwhile.

Under a lock, the launcher finds out which stages are complete, which are in the queue and which need a job, and submits
the last. Parents come first. Children wait for the arrays of their parents, however those end, and find out themselves
whether there is something to do (`slurm.worker`). Two more jobs continue the sweep: the controller job when all others
have ended, and the patrol every hour until then.
"""

import time
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from pathlib import Path

from scaling.core.errors import UserError
from scaling.core.stage_folder import StageFolder
from slurm import budget
from slurm.array_submission import ArraySubmitter, Function, SubmitResult
from slurm.arrays import StageJob, into_arrays
from slurm.batch import JobArray, Resources
from slurm.cancellation import cancel_mark
from slurm.cluster import SlurmCluster
from slurm.missing import missing_stages
from slurm.reconcile import QueuedArray, read_queue, reconcile
from slurm.scheduler import Scheduler, SchedulerDownError
from slurm.scheduler_retry import TIMEOUT, Retrier
from slurm.submissions import Submissions, new_name
from slurm.worker import work

CONTROLLER_MINUTES = 120
"""Time limit of a job that continues the sweep."""
PATROL_MINUTES = 60
"""Time between two checks for jobs that nothing else would submit again, while other jobs run."""
DEFAULT_ARRAY_SIZE = 1001
"""SLURM's default of MaxArraySize, for a dry run without a scheduler."""


class Launcher:
    """Submits to one cluster from one output folder."""

    def __init__(
        self,
        out: Path,
        cluster: SlurmCluster,
        scheduler: Scheduler,
        *,
        say: Callable[[str], None] = lambda text: None,
        sleep: Callable[[float], None] = time.sleep,
        timeout: float = TIMEOUT,
    ) -> None:
        """`timeout` is the number of seconds after which a scheduler that does not answer is given up."""
        self.out, self.runs, self.cluster, self.scheduler = out.resolve(), out.resolve() / "runs", cluster, scheduler
        self.submissions = Submissions(self.out)
        self.retrier = Retrier(scheduler, timeout=timeout, say=say, sleep=sleep)

    def submit(
        self,
        sweep_name: str,
        jobs: Sequence[StageJob],
        controller: Function,
        *,
        limit: float | None = None,
        dry_run: bool = False,
        own_name: str = "",
    ) -> SubmitResult:
        """Submits the stages that need a job. `jobs` come parents first. `controller` is called with the output folder
        when all jobs have ended, and every hour until then. `limit` is the budget in GPU-hours. `own_name` is the name
        of the job that calls this, if a job does.

        Raises UserError where the budget is too low or the scheduler refuses, and SchedulerDownError where the
        scheduler does not answer for too long. Arrays that were submitted before the error stay submitted.
        """
        with nullcontext() if dry_run else self.submissions.exclusive():
            queued = read_queue(self.submissions, self.retrier) if dry_run else self._reconcile()
            missing = missing_stages(jobs, self.runs, queued, self.submissions.all())
            ledger = budget.check(self.runs, queued, missing.to_submit, limit)
            result = SubmitResult(in_queue=missing.in_queue, blocked=missing.blocked)
            arrays = {stage: array.array for array in queued for stage in array.stages}
            submitter = ArraySubmitter(
                self.out, self.cluster, self.submissions, self.retrier, result, arrays, dry_run=dry_run
            )
            roles = {array.submission.role for array in queued if array.submission.name != own_name}
            light = Resources(0, 1, min(CONTROLLER_MINUTES, int(60 * self.cluster.hours_limit)))
            if (missing.to_submit or missing.in_queue) and "patrol" not in roles:
                # First: where the scheduler accepts no more jobs, the patrol submits the rest later.
                patrol = JobArray(new_name(sweep_name), light, 1, 1, (), PATROL_MINUTES)
                if not submitter.submit_controller(patrol, "patrol", controller):
                    return result
            for array, members in into_arrays(
                sweep_name, missing.to_submit, self.cluster, self._array_size(dry_run), arrays
            ):
                if not submitter.submit_stages(array, members, work):
                    break
                if not dry_run:
                    hours = sum(job.gpu_hours for job in members)
                    row = {"array": arrays[members[0].id], "stages": len(members), "gpu_hours": hours}
                    self.submissions.log_budget(at=self.scheduler.clock(), **row, **ledger)
            waiting = tuple(sorted({arrays[job.id] for job in jobs if job.id in arrays}))
            if waiting and (result.submitted or result.scripts or "controller" not in roles):
                submitter.submit_controller(
                    JobArray(new_name(sweep_name), light, 1, 1, waiting), "controller", controller
                )
            return result

    def cancel(self, stages: Sequence[str], *, whole_sweep: bool) -> list[str]:
        """Marks stages so that nothing tries them again, and cancels their jobs; with `whole_sweep` also the jobs that
        continue the sweep. Gives SLURM's names of the cancelled jobs."""
        with self.submissions.exclusive():
            for stage in stages:
                cancel_mark(StageFolder(self.runs / stage)).touch()  # first: a job that receives SIGTERM reads the mark
            cancelled, job_ids = set(stages), list[str]()
            for array in self._reconcile():
                submission = array.submission
                if submission.runs_stages:
                    jobs = dict(zip(submission.stages, submission.job_ids, strict=True))
                    job_ids += [jobs[stage] for stage in array.stages if stage in cancelled]
                elif whole_sweep:
                    job_ids += submission.job_ids
            if job_ids:
                self.retrier.ask(lambda: self.scheduler.cancel(job_ids))
            return job_ids

    def cancel_controllers(self, own_name: str) -> None:
        """Cancels the jobs that would continue the sweep, after its end, except the one that calls this."""
        with self.submissions.exclusive():
            submissions = [array.submission for array in self._reconcile()]
            others = [
                job_id
                for submission in submissions
                if not submission.runs_stages and submission.name != own_name
                for job_id in submission.job_ids
            ]
            if others:
                self.retrier.ask(lambda: self.scheduler.cancel(others))

    def _reconcile(self) -> list[QueuedArray]:
        return reconcile(self.submissions, self.runs, self.retrier)

    def _array_size(self, dry_run: bool) -> int:
        if self.cluster.max_array_size is not None:
            return self.cluster.max_array_size
        try:
            config = self.scheduler.config() if dry_run else self.retrier.ask(self.scheduler.config)
            return int(config["MaxArraySize"])
        except (UserError, SchedulerDownError):
            if not dry_run:
                raise
            return DEFAULT_ARRAY_SIZE
