"""Runs stages on this machine through Submitit's local executor, a limited number at a time. Imports no torch.

Submitit's local executor has no queue: it starts every job at once. So this file decides the order and the number of
jobs, and skips complete stages; what a stage does is in `scaling.stages.run`. Submitit pickles one path for each job,
and nothing is read back from its pickles: a stage is done when its folder has the file COMPLETE.
"""

import os
import shutil
import signal
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from submitit.core.core import Job
from submitit.local.local import LocalExecutor

from scaling.core.attempts import attempts
from scaling.core.errors import StageError, UserError
from scaling.core.stage import Stage
from scaling.core.stage_folder import StageFolder
from scaling.core.store import no_space
from scaling.stages.run import run_stage

POLL_SECONDS = 0.2
TIMEOUT_MINUTES = 60 * 24 * 30
"""Submitit's local executor kills a job at its time limit. Here a job may take as long as it needs."""
LOW_SPACE = 1 << 20
"""Free bytes below which a full disk is taken for the reason why a job ended without a message."""
LAST_LINES = 15
"""Number of lines of a failed job's error output that are shown."""


@dataclass
class RunningStage:
    """A stage that a job works on."""

    stage: Stage
    folder: StageFolder
    submitit_job: Job[None]
    slot: int
    """Number of this job among those that run at the same time. It decides which GPUs the job uses."""
    attempts_before: int


@dataclass
class Snapshot:
    """The progress of a set of stages, for displays."""

    done: list[Stage]
    running: list[tuple[Stage, dict[str, Any]]]
    """The running stages, each with its latest progress event."""
    waiting: list[Stage] = field(default_factory=list)


def execute(
    stages: Sequence[Stage],
    runs: Path,
    *,
    jobs: int,
    cores: int,
    gpus: int = 0,
    watch: Callable[[Snapshot], None] | None = None,
) -> None:
    """Completes every stage, parents first, with at most `jobs` at a time and at most `cores` threads in total (a stage
    that needs more runs alone). Skips complete stages. `watch` is called with the progress several times a second.

    Raises UserError where a stage failed by a mistake that the user can correct, and StageError where it failed
    otherwise, and KeyboardInterrupt where Ctrl-C or `kill` asks this process to end. Then the other jobs are stopped;
    they resume from their checkpoints next time.
    """
    for stage in stages:
        StageFolder.create(runs, stage)
    waiting = [stage for stage in stages if not StageFolder(runs / stage.id).complete]
    running: list[RunningStage] = []
    with _received_interrupts() as received:
        try:
            while waiting or running:
                ended = [job for job in running if job.submitit_job.state != "RUNNING"]
                running = [job for job in running if job not in ended]
                waiting = [*(job.stage for job in ended if not _is_complete(job)), *waiting]
                for stage in [stage for stage in waiting if _is_ready(stage, runs)]:
                    if not _has_room(stage, running, jobs, cores):
                        break  # otherwise smaller stages could keep a large one waiting without end
                    waiting.remove(stage)
                    slot = min(set(range(len(running) + 1)) - {job.slot for job in running})
                    running.append(_start(stage, runs, slot, gpus))
                if watch is not None:
                    watch(_snapshot(stages, running, waiting))
                if received:
                    raise KeyboardInterrupt
                time.sleep(POLL_SECONDS)
        finally:
            for job in running:
                job.submitit_job.cancel(check=False)
    if watch is not None:
        watch(_snapshot(stages, [], []))


@contextmanager
def _received_interrupts() -> Iterator[list[int]]:
    """Collects Ctrl-C and `kill` in a list. They must not raise an error wherever this process happens to be: in the
    start of a job, that would leave the job running, known to nobody."""
    received: list[int] = []
    before = {
        number: signal.signal(number, lambda number, _: received.append(number))
        for number in (signal.SIGINT, signal.SIGTERM)
    }
    try:
        yield received
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _is_ready(stage: Stage, runs: Path) -> bool:
    return all(StageFolder(runs / parent).complete for parent in stage.parents.values())


def _has_room(stage: Stage, running: Sequence[RunningStage], jobs: int, cores: int) -> bool:
    used = sum(job.stage.engine.cores for job in running)
    return not running or (len(running) < jobs and used + stage.engine.cores <= cores)


def _start(stage: Stage, runs: Path, slot: int, gpus: int) -> RunningStage:
    folder = StageFolder(runs / stage.id)
    executor = LocalExecutor(folder.path / "jobs")
    own_gpus = range(slot * gpus, (slot + 1) * gpus)  # Submitit would give every job the first GPUs
    executor.update_parameters(timeout_min=TIMEOUT_MINUTES, gpus_per_node=gpus, visible_gpus=tuple(own_gpus))
    before = folder.attempts
    with _threads(stage.engine.threads), _stderr_into(folder.path / "jobs" / "controller.log"):
        job = executor.submit(run_stage, str(folder.path.resolve()))
    return RunningStage(stage, folder, job, slot, before)


def _is_complete(ended: RunningStage) -> bool:
    """Whether a job that has ended has completed its stage. False where it ran out of memory, because it is tried again
    with smaller micro-batches; raises an error where it failed otherwise."""
    if not ended.folder.complete:
        if [attempt.end for attempt in attempts(ended.folder)][ended.attempts_before :] == ["out of memory"]:
            return False
        events = ended.folder.events(after=ended.attempts_before)
        error = next((event for event in reversed(events) if "error" in event), None)
        if error is not None and error["user_error"]:
            raise UserError(error["error"])
        if shutil.disk_usage(ended.folder.path).free < LOW_SPACE:  # then the job could not even write its message
            raise no_space(ended.folder.path)
        last_lines = (ended.submitit_job.stderr() or "").strip().splitlines()[-LAST_LINES:]
        raise StageError("\n".join([f"{ended.stage.id} failed; {ended.submitit_job.paths.stderr} ends:", *last_lines]))
    return True


def _snapshot(stages: Sequence[Stage], running: Sequence[RunningStage], waiting: Sequence[Stage]) -> Snapshot:
    busy = {job.stage.id for job in running} | {stage.id for stage in waiting}
    return Snapshot(
        done=[stage for stage in stages if stage.id not in busy],
        running=[(job.stage, _latest_progress(job)) for job in running],
        waiting=list(waiting),
    )


def _latest_progress(job: RunningStage) -> dict[str, Any]:
    events = job.folder.events(after=job.attempts_before)
    return next((event for event in reversed(events) if "done" in event), {})


@contextmanager
def _threads(count: int) -> Iterator[None]:
    """Sets the number of threads of the jobs that are started inside: OpenMP reads it once, when a process starts."""
    before = os.environ.get("OMP_NUM_THREADS")
    os.environ["OMP_NUM_THREADS"] = str(count)
    try:
        yield
    finally:
        os.environ.pop("OMP_NUM_THREADS")
        if before is not None:
            os.environ["OMP_NUM_THREADS"] = before


@contextmanager
def _stderr_into(path: Path) -> Iterator[None]:
    """Lets processes that are started inside inherit a file as their stderr: when a job is cancelled, Submitit prints a
    traceback, which does not belong on a terminal."""
    path.parent.mkdir(parents=True, exist_ok=True)
    sys.stderr.flush()
    terminal = os.dup(2)
    try:
        with open(path, "ab") as file:
            os.dup2(file.fileno(), 2)
        yield
    finally:
        os.dup2(terminal, 2)
        os.close(terminal)
