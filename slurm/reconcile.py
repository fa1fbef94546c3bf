"""Which of our arrays are in the queue. What went wrong on the way there is set right on the occasion.

An array whose number nobody was told is looked up by its name, one that the scheduler took a second time is cancelled,
and a job that is held because its node could not start it again is released.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from scaling.core.errors import UserError
from scaling.core.stage import StageFolder
from slurm.retry import SETTLE_SECONDS, Patience
from slurm.scheduler import HELD, Element, SchedulerDownError
from slurm.submissions import PATROL, STEERING, Submission, Submissions

NEVER = "0"
"""In place of the number of an array that the scheduler never took: if it does later, that is a second time."""


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


def look(submissions: Submissions, runs: Path, patience: Patience) -> list[Live]:
    """Of one output folder; only for who has it alone. Raises SchedulerDownError."""
    known, scheduler = submissions.all(), patience.scheduler
    if not known:
        return []
    queue = patience.ask(scheduler.queue)
    if any(one.job is None for one in known):
        queue = _settled(known, patience)
        known = [one if one.job is not None else _looked_up(one, queue, submissions, patience) for one in known]
    _cancel_doubles(known, queue, patience)
    _release(known, queue, patience)
    found = _in_queue(known, queue)
    latest = {stage: one.name for one in known for stage in one.stages}
    for one in known:
        missed = tuple(stage for stage in one.stages if latest[stage] == one.name and not _is_over(runs, stage))
        if not missed or one.job in (None, NEVER) or any(live.submission == one for live in found):
            continue
        if patience.ask(partial(scheduler.is_known, one.job, one.name)):  # squeue did not tell the truth
            found.append(Live(one, missed))
    return found


def glance(submissions: Submissions, patience: Patience) -> list[Live]:
    """`look` without consequences, and without an answer where there is none: for a dry run."""
    known = submissions.all()
    try:
        return _in_queue(known, patience.scheduler.queue()) if known else []
    except (UserError, SchedulerDownError):
        return []


def _in_queue(known: Sequence[Submission], queue: Sequence[Element]) -> list[Live]:
    queued = {(element.id, element.name) for element in queue}
    found = [Live(one, tuple(s for s in one.stages if (one.element(s), one.name) in queued)) for one in known]
    return [one for one in found if one.stages]


def _settled(known: Sequence[Submission], patience: Patience) -> list[Element]:
    """The queue, once the controller has had time for a submission that somebody died over."""
    newest = max(one.at for one in known if one.job is None)
    if (age := patience.scheduler.clock() - newest) < SETTLE_SECONDS:
        patience.sleep(SETTLE_SECONDS - max(0.0, age))
    return patience.ask(patience.scheduler.queue)


def _looked_up(one: Submission, queue: Sequence[Element], submissions: Submissions, patience: Patience) -> Submission:
    """With the number that its name has in the queue; where it has none, it was never taken, or is over."""
    arrays = sorted({element.array for element in queue if element.name == one.name}, key=int)
    if arrays:
        patience.say(f"{one.name} was taken by the scheduler as {arrays[0]}, although nobody heard of it")
    found = one.model_copy(update={"job": arrays[0] if arrays else NEVER})
    submissions.write(found)
    return found


def _cancel_doubles(known: Sequence[Submission], queue: Sequence[Element], patience: Patience) -> None:
    numbers = {one.name: one.job for one in known}
    doubles = sorted({element.array for element in queue if numbers.get(element.name, element.array) != element.array})
    if doubles:
        patience.say(f"cancelling {', '.join(doubles)}: taken a second time by the scheduler")
        patience.ask(lambda: patience.scheduler.cancel(doubles))


def _release(known: Sequence[Submission], queue: Sequence[Element], patience: Patience) -> None:
    names = {one.name for one in known}
    held = [element.id for element in queue if element.reason == HELD and element.name in names]
    if held:
        patience.say(f"releasing {', '.join(held)}: held, because its node could not start it again")
        patience.ask(lambda: patience.scheduler.release(held))


def _is_over(runs: Path, stage: str) -> bool:
    return stage not in (STEERING, PATROL) and StageFolder(runs / stage).complete
