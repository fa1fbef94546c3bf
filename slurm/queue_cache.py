"""What the scheduler last said of our jobs, shared by everybody who looks at one output folder.

One question at a time, and not two within 30 s: squeue first; accounting, where there is any, when jobs have left the
queue without having finished. What it said is a document; it may be old, and says how old it is.
"""

import fcntl
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from scaling.core.errors import UserError
from scaling.core.specs import Spec, parse_spec
from scaling.core.store import read_document, write_document
from slurm.scheduler import QUERY_SECONDS, RefusedError, Scheduler, SchedulerDownError


class Answers(Spec):
    """queue.json. Times are seconds since the epoch."""

    asked: float = 0.0
    """Latest question."""
    seen: float = 0.0
    """Latest answer of squeue."""
    queue: dict[str, tuple[str, str]] = {}
    """`<array>_<index>` -> state and reason, of all jobs that have not ended."""
    ended: dict[str, str] = {}
    """`<array>_<index>` -> final state, as far as accounting was asked."""
    accounting: bool = True
    """False once there turned out to be none."""
    problem: str = ""
    """Why the latest question has no answer."""


@dataclass(frozen=True)
class View:
    """The queue, for who derives states from it."""

    age: float
    """Seconds since squeue answered; infinite if it never did."""
    seen: float
    queue: dict[str, tuple[str, str]] = field(default_factory=dict)
    ended: dict[str, str] = field(default_factory=dict)
    problem: str = ""


_unwritten: dict[Path, Answers] = {}
"""What this process heard and could not write down, by folder."""


def look(folder: Path, scheduler: Scheduler, gone: Callable[[View], Sequence[str]]) -> View:
    """Asks one question, if the last was long enough ago. `gone` says which arrays left the queue unfinished, as a view
    has it."""
    with _alone(folder):
        path, now = folder / "queue.json", scheduler.clock()
        answers = _unwritten.get(folder, Answers())
        with suppress(UserError):  # torn or of another version: asked again
            written = parse_spec(Answers, read_document(path), str(path))
            answers = max(answers, written, key=lambda each: each.asked)
        if not 0 <= now - answers.asked < QUERY_SECONDS:
            unexplained = [array for array in gone(_view(answers, now)) if not _is_explained(array, answers)]
            wants_accounting = unexplained and answers.accounting and 0 <= now - answers.seen < 4 * QUERY_SECONDS
            answers = _account(answers, scheduler, unexplained) if wants_accounting else _list(answers, scheduler)
            answers = answers.model_copy(update={"asked": now})
            try:
                write_document(path, answers.model_dump(mode="json"))
                _unwritten.pop(folder, None)
            except (OSError, UserError):  # on a full disk, and where only reading is allowed, looking is all the same
                _unwritten[folder] = answers
    return _view(answers, now)


def _view(answers: Answers, now: float) -> View:
    age = now - answers.seen if answers.seen else float("inf")
    return View(age, answers.seen, dict(answers.queue), dict(answers.ended), answers.problem)


def _is_explained(array: str, answers: Answers) -> bool:
    return any(element.startswith(f"{array}_") for element in answers.ended)


def _list(answers: Answers, scheduler: Scheduler) -> Answers:
    try:
        elements = scheduler.queue()
    except (SchedulerDownError, RefusedError, UserError) as problem:
        return answers.model_copy(update={"problem": str(problem)})
    queue = {element.id: (element.state, element.reason) for element in elements}
    return answers.model_copy(update={"queue": queue, "seen": scheduler.clock(), "problem": ""})


def _account(answers: Answers, scheduler: Scheduler, arrays: Sequence[str]) -> Answers:
    try:
        found = scheduler.ended(arrays)
    except SchedulerDownError as problem:
        return answers.model_copy(update={"problem": str(problem)})
    except (RefusedError, UserError):
        return answers.model_copy(update={"accounting": False})
    return answers.model_copy(update={"ended": {**answers.ended, **found}, "problem": ""})


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    try:
        file = open(folder / "queue.lock", "a")  # noqa: SIM115 # closed below, with the lock
    except OSError:
        yield
        return
    with file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
