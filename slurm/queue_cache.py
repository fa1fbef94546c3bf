"""The scheduler's latest answer about our jobs, shared by all processes that read the state of one output folder.

Only one process at a time asks, and at most every 30 s: squeue first, and accounting, where the cluster has it, when
jobs have left the queue without being complete. The answer is kept in a document, which says how old it is.
"""

from collections.abc import Callable, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from pathlib import Path

from scaling.core.errors import UserError
from scaling.core.locks import locked
from scaling.core.specs import Spec, parse_spec
from scaling.core.store import read_document, write_document
from slurm.scheduler import QUERY_SECONDS, RefusedError, Scheduler, SchedulerDownError


class CachedQueue(Spec):
    """queue.json. Times are in seconds since the epoch."""

    asked: float = 0.0
    """Time of the latest question."""
    seen: float = 0.0
    """Time of the latest answer of squeue."""
    queue: dict[str, tuple[str, str]] = {}
    """State and reason of every job that has not ended, by `<array>_<index>`."""
    ended: dict[str, str] = {}
    """Final state of every job that accounting was asked about, by `<array>_<index>`."""
    accounting: bool = True
    """Whether the cluster may have accounting; false once it turned out to have none."""
    problem: str = ""
    """Why the latest question has no answer; empty if it has one."""


@dataclass(frozen=True)
class QueueView:
    """The queue at one moment, from which the states of stages are derived."""

    age: float
    """Seconds since squeue answered; infinite if it never did."""
    seen: float
    """Time of that answer, in seconds since the epoch."""
    queue: dict[str, tuple[str, str]] = field(default_factory=dict)
    """State and reason of every job that has not ended, by `<array>_<index>`."""
    ended: dict[str, str] = field(default_factory=dict)
    """Final state of jobs, by `<array>_<index>`, as far as accounting was asked."""
    problem: str = ""
    """Why the latest question has no answer; empty if it has one."""


_unwritten: dict[Path, CachedQueue] = {}
"""Answers that this process could not write, by folder: with a full disk or without permission, it still does not ask
more often."""


def read_cached_queue(
    folder: Path, scheduler: Scheduler, left_unfinished: Callable[[QueueView], Sequence[str]]
) -> QueueView:
    """The cached answer if it is recent, or a new one. `left_unfinished` gives the arrays of which a job has left the
    queue without its stage being complete."""
    cached, now = _read(folder), scheduler.clock()
    if _is_recent(cached, now):
        return _view(cached, now)
    with ExitStack() as stack:
        with suppress(UserError):  # a folder that this user may only read has no lock
            stack.enter_context(locked(folder / "queue.lock"))
        cached, now = _read(folder), scheduler.clock()
        if not _is_recent(cached, now):  # another process may have asked while this one waited
            unexplained = [array for array in left_unfinished(_view(cached, now)) if not _is_explained(array, cached)]
            wants_accounting = unexplained and cached.accounting and 0 <= now - cached.seen < 4 * QUERY_SECONDS
            cached = _ask_accounting(cached, scheduler, unexplained) if wants_accounting else _ask(cached, scheduler)
            cached = cached.replace(asked=now)
            _write(folder, cached)
    return _view(cached, now)


def _read(folder: Path) -> CachedQueue:
    path, cached = folder / "queue.json", _unwritten.get(folder, CachedQueue())
    with suppress(UserError):  # missing, damaged or of another version: the scheduler is asked again
        written = parse_spec(CachedQueue, read_document(path), str(path))
        cached = max(cached, written, key=lambda candidate: candidate.asked)
    return cached


def _write(folder: Path, cached: CachedQueue) -> None:
    try:
        write_document(folder / "queue.json", cached.model_dump(mode="json"))
        _unwritten.pop(folder, None)
    except (OSError, UserError):  # a full disk, or a folder that this user may only read
        _unwritten[folder] = cached


def _is_recent(cached: CachedQueue, now: float) -> bool:
    return 0 <= now - cached.asked < QUERY_SECONDS


def _view(cached: CachedQueue, now: float) -> QueueView:
    age = now - cached.seen if cached.seen else float("inf")
    return QueueView(age, cached.seen, dict(cached.queue), dict(cached.ended), cached.problem)


def _is_explained(array: str, cached: CachedQueue) -> bool:
    return any(job_id.startswith(f"{array}_") for job_id in cached.ended)


def _ask(cached: CachedQueue, scheduler: Scheduler) -> CachedQueue:
    try:
        rows = scheduler.queue()
    except (SchedulerDownError, RefusedError, UserError) as problem:
        return cached.replace(problem=str(problem))
    queue = {row.job_id: (row.state, row.reason) for row in rows}
    return cached.replace(queue=queue, seen=scheduler.clock(), problem="")


def _ask_accounting(cached: CachedQueue, scheduler: Scheduler, arrays: Sequence[str]) -> CachedQueue:
    try:
        ended = scheduler.ended(arrays)
    except SchedulerDownError as problem:
        return cached.replace(problem=str(problem))
    except (RefusedError, UserError):
        return cached.replace(accounting=False)
    return cached.replace(ended={**cached.ended, **ended}, problem="")
