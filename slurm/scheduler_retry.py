"""Repeats a question to a scheduler that does not answer, up to a time limit, and submits without submitting twice."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from slurm.scheduler import Scheduler, SchedulerDownError

SETTLE_SECONDS = 10.0
"""Time between a submission without an answer and the question whether it was accepted: SLURM's controller may still be
working on it."""
LONGEST_PAUSE = 300.0
"""Longest time between two questions, in seconds."""
TIMEOUT = 3600.0
"""Seconds after which a question without an answer is given up."""

T = TypeVar("T")


class Retrier:
    """Asks a scheduler again until it answers."""

    def __init__(
        self,
        scheduler: Scheduler,
        *,
        timeout: float = TIMEOUT,
        say: Callable[[str], None] = lambda text: None,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        """`timeout` is the number of seconds after which a question without an answer is given up."""
        self.scheduler, self.timeout, self.say, self.sleep = scheduler, timeout, say, sleep

    def ask(self, question: Callable[[], T]) -> T:
        """The answer to a question. Raises SchedulerDownError after the timeout."""
        started, pause = self.scheduler.clock(), SETTLE_SECONDS
        while True:
            try:
                return question()
            except SchedulerDownError as down:
                self._wait(down, started, pause)
                pause = min(2 * pause, LONGEST_PAUSE)

    def submit(self, name: str, script: Path) -> str:
        """Submits a batch script and gives the number of its array. If the scheduler accepted it without answering, the
        array is found by the name of its jobs.

        Raises RefusedError, and SchedulerDownError after the timeout: then it may have been accepted.
        """
        started = self.scheduler.clock()
        while True:
            try:
                return self.scheduler.submit(script)
            except SchedulerDownError as down:
                self._wait(down, started, SETTLE_SECONDS)
            if arrays := self.ask(lambda: self.scheduler.arrays_named(name)):
                self.say(f"the scheduler accepted {name} as {arrays[0]} without answering")
                return arrays[0]

    def _wait(self, down: SchedulerDownError, started: float, pause: float) -> None:
        wait = max(down.wait, pause)
        if self.scheduler.clock() + wait - started > self.timeout:
            raise down
        self.say(f"{down}; asking again in {wait:.0f} s")
        self.sleep(wait)
