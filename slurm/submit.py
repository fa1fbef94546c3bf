"""Hands stages to SLURM as job arrays: each once, however often this is called, by however many, and whatever fails.

Under a lock it looks at what is done, what is queued and what nobody is at, and submits the last. Parents come first;
children wait for the arrays of their parents, however those end, and look for themselves whether there is something to
do (`slurm.worker`). One more job waits for all of them and goes on with the sweep.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from scaling.attempts import attempts, given_up
from scaling.errors import UserError
from scaling.stage import Stage, StageFolder
from slurm import batch
from slurm.batch import Array, Resources
from slurm.cluster import SlurmCluster
from slurm.scheduler import Element, FullError, RefusedError, Scheduler, SchedulerDownError
from slurm.submissions import STEERING, Submission, Submissions, new_name
from slurm.worker import cancel_mark, is_cancelled, work

Answer = TypeVar("Answer")

NEVER = "0"
"""In place of the number of an array that the scheduler never took: if it does later, that is a second time."""
SETTLE_SECONDS = 10.0
"""After a submission without an answer, before it is looked up: the controller may be at it still."""
STEERING_MINUTES = 120
DEFAULT_ARRAY_SIZE = 1001
"""SLURM's own, for a dry run without a scheduler."""


@dataclass(frozen=True)
class Job:
    """A stage and what it is expected to need."""

    stage: Stage
    gpus: int
    hours: float
    gpu_hours: float


@dataclass(frozen=True)
class Live:
    """A submission with an index in the queue."""

    submission: Submission
    stages: tuple[str, ...]
    """Those of its stages whose indices are."""

    @property
    def job(self) -> str:
        assert self.submission.job is not None
        return self.submission.job


@dataclass(frozen=True)
class Budget:
    """GPU-hours: what was spent, what is promised to jobs in the queue, and, where one is set, the limit."""

    spent: float
    reserved: float
    limit: float | None


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
        self.submissions, self.say, self.sleep, self.patience = Submissions(self.out), say, sleep, patience

    def submit(
        self,
        sweep_name: str,
        jobs: Sequence[Job],
        steer: Callable[[str], Any],
        *,
        budget: float | None = None,
        dry_run: bool = False,
        myself: str = "",
    ) -> Outcome:
        """Submits what nobody is at. `jobs` come parents first; `steer` is what Submitit calls, with the output folder,
        when all of them have ended. `myself` is the name of the steering job that calls this.

        Raises UserError where the budget does not suffice or the scheduler refuses, SchedulerDownError where it does
        not answer for too long. What was submitted until then stays so.
        """
        with self.submissions.alone():
            live = self._live(dry_run)
            outcome = self._sort(jobs, live)
            todo = [
                job for job in jobs if job.stage.id not in {*outcome.busy, *outcome.blocked} and not self._done(job)
            ]
            self._check_budget(todo, live, budget, dry_run)
            size = self._array_size(dry_run)
            numbers = {stage: one.job for one in live for stage in one.stages}
            for array, members in self._arrays(sweep_name, todo, numbers, size):
                self._hand_over(array, members, work, outcome, numbers, dry_run)
                if outcome.full:
                    break
            waiting = sorted({number for stage, number in numbers.items() if stage != STEERING}, key=_number)
            steered = any(one.submission.is_steering and one.submission.name != myself for one in live)
            if waiting and (outcome.submitted or outcome.scripts or not steered):
                minutes = min(STEERING_MINUTES, int(60 * self.cluster.hours_limit))
                last = Array(new_name(sweep_name), Resources(0, 1, minutes), 1, 1, tuple(waiting))
                self._hand_over(last, [], steer, outcome, numbers, dry_run)
            return outcome

    def budget(self, stages: Sequence[str], limit: float | None) -> Budget:
        """As the folders and the live submissions have it."""
        return self._budget(stages, self._live(False), limit)

    def cancel(self, stages: Sequence[str], *, everything: bool) -> list[str]:
        """Marks stages so that nobody tries them again, and takes their jobs out of the queue, and the steering job
        where that is everything. Gives the jobs' names."""
        with self.submissions.alone():
            for stage in stages:
                cancel_mark(StageFolder(self.runs / stage)).touch()  # first: a job that hears SIGTERM looks for it
            elements = [
                one.submission.element(stage)
                for one in self._live(False)
                for stage in one.stages
                if stage in stages or (everything and stage == STEERING)
            ]
            if elements:
                self._ask(lambda: self.scheduler.cancel(elements))
            return elements

    # what nobody is at

    def _live(self, dry_run: bool) -> list[Live]:
        """Submissions with an index in the queue. Arrays of unknown number are looked up by their names, and arrays
        that took a submission a second time are cancelled; a dry run looks only, and does without an answer."""
        known = self.submissions.all()
        if not known:
            return []
        try:
            queue = self._ask(self.scheduler.queue, once=dry_run)
        except (UserError, SchedulerDownError):
            if not dry_run:
                raise
            return []
        if not dry_run:
            if any(one.job is None for one in known):
                queue = self._settled(known)
                known = [one if one.job is not None else self._looked_up(one, queue) for one in known]
            self._cancel_doubles(known, queue)
        queued = {element.id for element in queue}
        latest = {stage: one.name for one in known for stage in one.stages}
        live = []
        for one in known:
            here = tuple(stage for stage in one.stages if one.element(stage) in queued)
            missed = tuple(stage for stage in one.stages if latest[stage] == one.name and not self._is_over(stage))
            if not here and missed and one.job not in (None, NEVER) and not dry_run and self._is_known(one):
                here = missed  # squeue did not tell the truth
            if here:
                live.append(Live(one, here))
        return live

    def _settled(self, known: Sequence[Submission]) -> list[Element]:
        """The queue, once the controller has had time for a submission that somebody died over."""
        newest = max(one.at for one in known if one.job is None)
        if (age := self.scheduler.clock() - newest) < SETTLE_SECONDS:
            self.sleep(SETTLE_SECONDS - max(0.0, age))
        return self._ask(self.scheduler.queue)

    def _looked_up(self, one: Submission, queue: Sequence[Element]) -> Submission:
        """With the number that its name has in the queue; where it has none, it was never taken, or is over."""
        arrays = sorted({element.array for element in queue if element.name == one.name}, key=_number)
        if arrays:
            self.say(f"{one.name} was taken by the scheduler as {arrays[0]}, although nobody heard of it")
        found = one.model_copy(update={"job": arrays[0] if arrays else NEVER})
        self.submissions.write(found)
        return found

    def _cancel_doubles(self, known: Sequence[Submission], queue: Sequence[Element]) -> None:
        numbers = {one.name: one.job for one in known}
        doubles = {element.array for element in queue if numbers.get(element.name, element.array) != element.array}
        if doubles:
            self.say(f"cancelling {', '.join(sorted(doubles))}: taken a second time by the scheduler")
            self._ask(lambda: self.scheduler.cancel(sorted(doubles)))

    def _is_known(self, one: Submission) -> bool:
        return self._ask(lambda: self.scheduler.is_known(str(one.job)))

    def _is_over(self, stage: str) -> bool:
        return stage != STEERING and StageFolder(self.runs / stage).complete

    def _done(self, job: Job) -> bool:
        return StageFolder(self.runs / job.stage.id).complete

    def _sort(self, jobs: Sequence[Job], live: Sequence[Live]) -> Outcome:
        """Which stages are busy, and which have no use in being tried."""
        queued = {stage for one in live for stage in one.stages}
        outcome = Outcome(busy=[job.stage.id for job in jobs if job.stage.id in queued and not self._done(job)])
        for job in jobs:
            stage = job.stage
            folder = StageFolder(self.runs / stage.id)
            if stage.id in queued or folder.complete:
                continue
            lost = [parent for parent in stage.parents.values() if parent in outcome.blocked]
            if lost:
                outcome.blocked[stage.id] = f"waits for {lost[0]}"
            elif is_cancelled(folder):
                outcome.blocked[stage.id] = "cancelled"
            elif reason := given_up(folder, attempts(folder)):
                outcome.blocked[stage.id] = reason
        return outcome

    # money

    def _budget(self, stages: Sequence[str], live: Sequence[Live], limit: float | None) -> Budget:
        spent = sum(
            attempt.seconds / 3600 * attempt.gpus
            for stage in stages
            for attempt in attempts(StageFolder(self.runs / stage))
        )
        reserved = sum(
            hours
            for one in live
            for stage, hours in zip(one.submission.stages, one.submission.gpu_hours, strict=True)
            if stage in one.stages and not self._is_over(stage)
        )
        return Budget(spent, reserved, limit)

    def _check_budget(self, todo: Sequence[Job], live: Sequence[Live], limit: float | None, dry_run: bool) -> None:
        every = [path.parent.name for path in self.runs.glob("*/attempts")]
        now = self._budget(every, live, limit)
        wanted = sum(job.gpu_hours for job in todo)
        if limit is not None and now.spent + now.reserved + wanted > limit:
            raise UserError(
                f"--budget-gpu-hours is {limit:g}, but {now.spent:.3g} are spent, {now.reserved:.3g} promised to "
                f"queued jobs, and this would add {wanted:.3g}: raise it, or make the sweep smaller"
            )
        if todo and not dry_run:
            self.submissions.note(
                at=self.scheduler.clock(),
                stages=len(todo),
                add=wanted,
                spent=now.spent,
                reserved=now.reserved,
                limit=limit,
            )

    # arrays

    def _array_size(self, dry_run: bool) -> int:
        if self.cluster.max_array_size is not None:
            return self.cluster.max_array_size
        try:
            return int(self._ask(self.scheduler.config, once=dry_run)["MaxArraySize"])
        except (UserError, SchedulerDownError):
            if not dry_run:
                raise
            return DEFAULT_ARRAY_SIZE

    def _arrays(
        self, sweep_name: str, todo: Sequence[Job], numbers: dict[str, str], size: int
    ) -> Iterator[tuple[Array, list[Job]]]:
        """Arrays in the order in which they can be submitted. Where one class fills several, they share the GPUs, and
        what is too much waits for one before it."""
        depth: dict[str, int] = {}
        classes: dict[tuple[int, Resources], list[Job]] = {}
        for job in todo:
            depth[job.stage.id] = 1 + max((depth.get(parent, -1) for parent in job.stage.parents.values()), default=-1)
            resources = Resources.of(self.cluster, job.gpus, job.hours)
            classes.setdefault((depth[job.stage.id], resources), []).append(job)
        wanted: dict[int, int] = {}
        for (level, resources), members in classes.items():
            wanted[level] = wanted.get(level, 0) + resources.gpus * len(members)
        for (level, resources), members in sorted(classes.items(), key=lambda item: item[0][0]):
            # classes that wait for the same things run at the same time, and share the GPUs
            part = resources.gpus * len(members) / max(1, wanted[level]) * self.cluster.max_gpus
            at_a_time = max(1, int(part) // resources.gpus) if resources.gpus else len(members)
            chunks = [members[first : first + size] for first in range(0, len(members), size)]
            lanes = min(at_a_time, len(chunks))
            lane: dict[int, str] = {}
            for number, chunk in enumerate(chunks):
                throttle = min(len(chunk), at_a_time // lanes + (number % lanes < at_a_time % lanes))
                after = {numbers[p] for job in chunk for p in job.stage.parents.values() if p in numbers}
                if number >= lanes:
                    after.add(lane[number % lanes])
                yield (
                    Array(new_name(sweep_name), resources, len(chunk), throttle, tuple(sorted(after, key=_number))),
                    chunk,
                )
                lane[number % lanes] = numbers.get(chunk[0].stage.id, "")

    def _hand_over(
        self,
        array: Array,
        members: Sequence[Job],
        function: Callable[[str], Any],
        outcome: Outcome,
        numbers: dict[str, str],
        dry_run: bool,
    ) -> None:
        stages = tuple(job.stage.id for job in members) or (STEERING,)
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
        for job in members:
            StageFolder.create(self.runs, placed(job, self.cluster))
        script = batch.write(text, folder, function, [self.runs / job.stage.id for job in members] or [self.out])
        self.submissions.write(one)
        try:
            taken = one.model_copy(update={"job": self._sbatch(one.name, script)})
        except FullError as full:
            self.submissions.withdraw(one)
            outcome.full = str(full)
            self.say(f"the scheduler takes no more jobs for now ({full}); the rest is submitted later")
            return
        except RefusedError as refusal:
            self.submissions.withdraw(one)
            raise UserError(f"cluster {self.cluster.name}: sbatch refuses: {refusal}") from None
        self.submissions.write(taken)
        outcome.submitted.append(taken)
        assert taken.job is not None
        numbers.update(dict.fromkeys(stages, taken.job))

    def _sbatch(self, name: str, script: Path) -> str:
        """Submits until there is an answer; what was taken without one is found by its name."""
        begun, pause = self.scheduler.clock(), SETTLE_SECONDS
        while True:
            try:
                return self.scheduler.submit(script)
            except SchedulerDownError as down:
                self._wait(down, begun, pause)
            while True:
                try:
                    found = self.scheduler.named(name)
                    break
                except SchedulerDownError as down:
                    self._wait(down, begun, pause := min(2 * pause, 300.0))
            if found:
                self.say(f"{name} was taken by the scheduler as {found[0]}, although it did not say so")
                return found[0]

    def _ask(self, question: Callable[[], Answer], once: bool = False) -> Answer:
        """Asks until there is an answer."""
        begun, pause = self.scheduler.clock(), SETTLE_SECONDS
        while True:
            try:
                return question()
            except SchedulerDownError as down:
                if once:
                    raise
                self._wait(down, begun, pause)
                pause = min(2 * pause, 300.0)

    def _wait(self, down: SchedulerDownError, begun: float, pause: float) -> None:
        wait = max(down.wait, pause)
        if self.scheduler.clock() + wait - begun > self.patience:
            raise down
        self.say(f"{down}; asking again in {wait:.0f} s")
        self.sleep(wait)


def placed(job: Job, cluster: SlurmCluster) -> Stage:
    """The stage with an engine for its job: a rank for each GPU."""
    engine = {"processes": max(1, job.gpus), "threads": cluster.cpus_per_gpu if job.gpus else cluster.light.cpus}
    return job.stage.model_copy(update={"engine": job.stage.engine.model_copy(update=engine)})


def _number(job: str) -> tuple[int, str]:
    return (int(job), job) if job.isdigit() else (0, job)
