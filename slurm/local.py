"""Runs stages on this machine through Submitit's local executor, a bounded number at a time. Imports no torch.

Submitit's local executor has no queue of its own: it starts whatever it is given. The order, the bound and the
skipping of what is done are here; what a stage does is in `scaling.stages.run`. What Submitit pickles is one path,
and nothing is read back from its pickles: a stage is done when its folder says COMPLETE.
"""

import os
import shutil
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
from scaling.core.stage import Stage, StageFolder
from scaling.core.store import no_space
from scaling.stages.run import run_stage

POLL_SECONDS = 0.2
FOREVER_MINUTES = 60 * 24 * 30
"""Submitit's local executor kills a job at its time limit; a laptop has none."""
LOW_SPACE = 1 << 20
"""Free bytes below which a job that died without a word is put down to a full disk."""
LAST_LINES = 15
"""How much of a failed job's error output is shown."""


@dataclass
class Running:
    """A stage that a job is at."""

    stage: Stage
    folder: StageFolder
    job: Job[None]
    slot: int
    """Which of the jobs at a time this is; it owns the GPUs of that number."""
    attempts_before: int


@dataclass
class Snapshot:
    """Where a set of stages stands: for progress displays."""

    done: list[Stage]
    running: list[tuple[Stage, dict[str, Any]]]
    """With the newest event of each."""
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
    """Brings every stage to COMPLETE, parents first, with at most `jobs` at a time and at most `cores` threads among
    them (a stage that wants more runs alone). Stages that are complete are skipped.

    Raises UserError where a stage failed for a reason that the user can mend, StageError where it failed otherwise;
    the other jobs are stopped then, and resume from their checkpoints next time.
    """
    for stage in stages:
        StageFolder.create(runs, stage)
    waiting = [stage for stage in stages if not StageFolder(runs / stage.id).complete]
    running: list[Running] = []
    try:
        while waiting or running:
            ended = [one for one in running if one.job.state != "RUNNING"]
            running = [one for one in running if one not in ended]
            waiting = [*(one.stage for one in ended if not _is_complete(one)), *waiting]
            for stage in [stage for stage in waiting if _is_ready(stage, runs)]:
                if not _has_room(stage, running, jobs, cores):
                    break  # or smaller stages would keep a large one waiting for ever
                waiting.remove(stage)
                slot = min(set(range(len(running) + 1)) - {one.slot for one in running})
                running.append(_start(stage, runs, slot, gpus))
            if watch is not None:
                watch(_snapshot(stages, running, waiting))
            time.sleep(POLL_SECONDS)
    finally:
        for one in running:
            one.job.cancel(check=False)
    if watch is not None:
        watch(_snapshot(stages, [], []))


def _is_ready(stage: Stage, runs: Path) -> bool:
    return all(StageFolder(runs / parent).complete for parent in stage.parents.values())


def _has_room(stage: Stage, running: Sequence[Running], jobs: int, cores: int) -> bool:
    used = sum(one.stage.engine.cores for one in running)
    return not running or (len(running) < jobs and used + stage.engine.cores <= cores)


def _start(stage: Stage, runs: Path, slot: int, gpus: int) -> Running:
    folder = StageFolder(runs / stage.id)
    executor = LocalExecutor(folder.path / "jobs")
    mine = range(slot * gpus, (slot + 1) * gpus)  # Submitit would give every job the first ones
    executor.update_parameters(timeout_min=FOREVER_MINUTES, gpus_per_node=gpus, visible_gpus=tuple(mine))
    before = folder.attempts
    with _threads(stage.engine.threads), _stderr_into(folder.path / "jobs" / "controller.log"):
        job = executor.submit(run_stage, str(folder.path.resolve()))
    return Running(stage, folder, job, slot, before)


def _is_complete(one: Running) -> bool:
    """Of a job that has ended: False where it ran out of memory, and can be tried with smaller micro-batches. Raises
    where it ended without COMPLETE otherwise."""
    if not one.folder.complete:
        if [attempt.end for attempt in attempts(one.folder)][one.attempts_before :] == ["out of memory"]:
            return False
        events = one.folder.events(after=one.attempts_before)
        error = next((event for event in reversed(events) if "error" in event), None)
        if error is not None and error["mendable"]:
            raise UserError(error["error"])
        if shutil.disk_usage(one.folder.path).free < LOW_SPACE:  # then even the reason could not be written
            raise no_space(one.folder.path)
        last_words = (one.job.stderr() or "").strip().splitlines()[-LAST_LINES:]
        raise StageError("\n".join([f"{one.stage.id} failed; {one.job.paths.stderr} ends:", *last_words]))
    return True


def _snapshot(stages: Sequence[Stage], running: Sequence[Running], waiting: Sequence[Stage]) -> Snapshot:
    busy = {one.stage.id for one in running} | {stage.id for stage in waiting}
    return Snapshot(
        done=[stage for stage in stages if stage.id not in busy],
        running=[(one.stage, _how_far(one)) for one in running],
        waiting=list(waiting),
    )


def _how_far(one: Running) -> dict[str, Any]:
    events = one.folder.events(after=one.attempts_before)
    return next((event for event in reversed(events) if "done" in event), {})


@contextmanager
def _threads(count: int) -> Iterator[None]:
    """Sets the thread count of the jobs that are started inside: OpenMP reads it once, when a process starts."""
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
    """Lets processes that are started inside inherit a file as their stderr: Submitit's controller answers a
    cancellation with a traceback, which nobody should read on a terminal."""
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
