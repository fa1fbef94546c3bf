"""Hands stages to SLURM as job arrays: each once, however often this is called, by however many, and whatever fails.

Under a lock it looks at what is done, what is queued and what nobody is at, and submits the last. Parents come first;
children wait for the arrays of their parents, however those end, and look for themselves whether there is something to
do (`slurm.worker`). Two more jobs go on with the sweep: one when all of them have ended, one every hour meanwhile.
"""

import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from scaling.core.attempts import SILENT, Attempt, attempts, forgiven_at, given_up
from scaling.core.errors import UserError
from scaling.core.stage import StageFolder
from slurm import batch, budget
from slurm.arrays import Job, cut
from slurm.batch import Array, Resources
from slurm.cluster import SlurmCluster
from slurm.reconcile import Live, glance, look
from slurm.retry import Patience
from slurm.scheduler import FullError, RefusedError, Scheduler, SchedulerDownError
from slurm.submissions import PATROL, STEERING, Submission, Submissions, new_name
from slurm.worker import cancel_mark, is_cancelled, work

STEERING_MINUTES = 120
PATROL_MINUTES = 60
"""Between two looks at jobs that cannot go on by themselves, while others run."""
DEFAULT_ARRAY_SIZE = 1001
"""SLURM's own MaxArraySize, for a dry run without a scheduler."""
WRITERS = 16
"""Specs that are written at a time: each waits for the disk."""


@dataclass
class Outcome:
    """What a launcher did."""

    submitted: list[Submission] = field(default_factory=list)
    busy: list[str] = field(default_factory=list)
    """Stages that were in the queue already."""
    blocked: dict[str, str] = field(default_factory=dict)
    """Stage -> why it is not tried again, or which parent's failure it hangs on."""
    scripts: list[str] = field(default_factory=list)
    """Of a dry run: what sbatch would have been given."""
    full: str = ""
    """What the scheduler said when it took no more."""


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
        patience: float = 3600.0,
    ) -> None:
        """`patience`: seconds for which a scheduler that does not answer is waited for."""
        self.out, self.runs, self.cluster, self.scheduler = out.resolve(), out.resolve() / "runs", cluster, scheduler
        self.submissions, self.say = Submissions(self.out), say
        self.patience = Patience(scheduler, seconds=patience, say=say, sleep=sleep)

    def submit(
        self,
        sweep_name: str,
        jobs: Sequence[Job],
        steer: Callable[[str], Any],
        *,
        limit: float | None = None,
        dry_run: bool = False,
        myself: str = "",
    ) -> Outcome:
        """Submits what nobody is at. `jobs` come parents first; `steer` is what Submitit calls, with the output folder,
        when all of them have ended, and every hour meanwhile. `limit` is the budget in GPU-hours; `myself` the name of
        the job that calls this.

        Raises UserError where the budget does not suffice or the scheduler refuses, SchedulerDownError where it does
        not answer for too long. What was submitted until then stays so.
        """
        with nullcontext() if dry_run else self.submissions.alone():
            live = glance(self.submissions, self.patience) if dry_run else self._look()
            outcome = self._sort(jobs, live)
            left_alone = {*outcome.busy, *outcome.blocked}
            todo = [job for job in jobs if job.id not in left_alone and not StageFolder(self.runs / job.id).complete]
            ledger = budget.check(self.runs, live, todo, limit)
            numbers = {stage: one.job for one in live for stage in one.stages}
            others = {one.stages[0] for one in live if one.submission.name != myself}
            light = Resources(0, 1, min(STEERING_MINUTES, int(60 * self.cluster.hours_limit)))
            if (todo or outcome.busy) and PATROL not in others:  # first: it goes on where the scheduler takes no more
                again = Array(new_name(sweep_name), light, 1, 1, (), PATROL_MINUTES)
                self._hand_over(again, [], steer, outcome, numbers, dry_run)
                if outcome.full:
                    return outcome
            for array, members in cut(sweep_name, todo, self.cluster, self._array_size(dry_run), numbers):
                self._hand_over(array, members, work, outcome, numbers, dry_run)
                if outcome.full:
                    break
                if not dry_run:
                    hours = sum(job.gpu_hours for job in members)
                    row = {"array": numbers[members[0].id], "stages": len(members), "gpu_hours": hours}
                    self.submissions.note(at=self.scheduler.clock(), **row, **ledger)
            waiting = tuple(sorted({numbers[job.id] for job in jobs if job.id in numbers}))
            if waiting and (outcome.submitted or outcome.scripts or STEERING not in others):
                last = Array(new_name(sweep_name), light, 1, 1, waiting)
                self._hand_over(last, [], steer, outcome, numbers, dry_run)
            return outcome

    def cancel(self, stages: Sequence[str], *, everything: bool) -> list[str]:
        """Marks stages so that nobody tries them again, and takes their jobs out of the queue; with `everything` those
        that go on with the sweep as well. Gives the jobs' names."""
        with self.submissions.alone():
            for stage in stages:
                cancel_mark(StageFolder(self.runs / stage)).touch()  # first: who hears SIGTERM looks for it
            doomed = {*stages, *((STEERING, PATROL) if everything else ())}
            elements = [
                one.submission.element(stage) for one in self._look() for stage in one.stages if stage in doomed
            ]
            if elements:
                self.patience.ask(lambda: self.scheduler.cancel(elements))
            return elements

    def dismiss(self, myself: str) -> None:
        """Takes what would go on with the sweep out of the queue, once it has come to its end; not who says so."""
        with self.submissions.alone():
            steering = [one.submission for one in self._look() if one.submission.is_steering]
            others = [f"{one.job}_0" for one in steering if one.name != myself]
            if others:
                self.patience.ask(lambda: self.scheduler.cancel(others))

    def _look(self) -> list[Live]:
        return look(self.submissions, self.runs, self.patience)

    def _sort(self, jobs: Sequence[Job], live: Sequence[Live]) -> Outcome:
        """Which stages are busy, and which have no use in being tried."""
        queued, known = {stage for one in live for stage in one.stages}, self.submissions.all()
        outcome = Outcome()
        for job in jobs:
            folder = StageFolder(self.runs / job.id)
            if folder.complete:
                continue
            lost = [parent for parent in job.stage.parents.values() if parent in outcome.blocked]
            if job.id in queued:
                outcome.busy.append(job.id)
            elif lost:
                outcome.blocked[job.id] = f"waits for {lost[0]}"
            elif is_cancelled(folder):
                outcome.blocked[job.id] = "cancelled"
            else:
                past = attempts(folder)
                reason = given_up(folder, past) or _never_begun(folder, known, past)
                if reason is not None:
                    outcome.blocked[job.id] = reason
        return outcome

    def _array_size(self, dry_run: bool) -> int:
        if self.cluster.max_array_size is not None:
            return self.cluster.max_array_size
        try:
            config = self.scheduler.config() if dry_run else self.patience.ask(self.scheduler.config)
            return int(config["MaxArraySize"])
        except (UserError, SchedulerDownError):
            if not dry_run:
                raise
            return DEFAULT_ARRAY_SIZE

    def _hand_over(
        self,
        array: Array,
        members: Sequence[Job],
        function: Callable[[str], Any],
        outcome: Outcome,
        numbers: dict[str, str],
        dry_run: bool,
    ) -> None:
        """Submits one array, and says so in `outcome` and `numbers`."""
        stages = tuple(job.id for job in members) or (PATROL if array.delay_minutes else STEERING,)
        one = Submission(
            name=array.name,
            stages=stages,
            gpus=array.resources.gpus,
            gpu_hours=tuple(job.gpu_hours for job in members) or (0.0,),
            at=self.scheduler.clock(),
        )
        folder = self.submissions.jobs_folder(one)
        text = batch.script(array, self.cluster, folder)
        if dry_run:
            outcome.scripts.append(text)
            numbers.update(dict.fromkeys(stages, f"<{array.name}>"))
            return
        with ThreadPoolExecutor(WRITERS) as pool:
            list(pool.map(lambda job: StageFolder.create(self.runs, job.placed(self.cluster)), members))
        script = batch.write(text, folder, function, [self.runs / job.id for job in members] or [self.out])
        self.submissions.write(one)
        try:
            number = self.patience.submit(one.name, script)
        except FullError as full:
            self.submissions.withdraw(one)
            outcome.full = str(full)
            if len(members) > 1 and not outcome.busy and all(each.is_steering for each in outcome.submitted):
                raise UserError(
                    f"cluster {self.cluster.name}: the scheduler takes no array of {len(members)} jobs ({full}): "
                    "give a smaller max_array_size"
                ) from None
            self.say(f"the scheduler takes no more jobs for now ({full}); the rest is submitted later")
            return
        except RefusedError as refusal:
            self.submissions.withdraw(one)
            raise UserError(f"cluster {self.cluster.name}: sbatch refuses: {refusal}") from None
        taken = one.model_copy(update={"job": number})
        self.submissions.write(taken)
        outcome.submitted.append(taken)
        numbers.update(dict.fromkeys(stages, number))


def _never_begun(folder: StageFolder, known: Sequence[Submission], past: Sequence[Attempt]) -> str | None:
    """Why another job would be one too many, where several ended before they began to work: without the right Python,
    or on nodes that do not see the folder."""
    stage, since = folder.path.name, forgiven_at(folder)
    if not folder.spec_path.exists():
        return None
    elements = [one.element(stage) for one in known if stage in one.stages and one.job and one.at > since]
    worked = {attempt.job.partition(".")[0] for attempt in past}
    idle = [element for element in elements if element not in worked]
    parents = [StageFolder(folder.path.parent / parent) for parent in folder.stage().parents.values()]
    if len(idle) < SILENT or not all(parent.complete for parent in parents):
        return None
    return f"{len(idle)} jobs, the latest {idle[-1]}, ended before they began to work; 'scaling logs' may say why"
