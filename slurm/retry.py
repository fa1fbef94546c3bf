"""Asks a scheduler that may not answer, again and again but not for ever, and submits to it without doing so twice."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from slurm.scheduler import Scheduler, SchedulerDownError

SETTLE_SECONDS = 10.0
"""After a submission without an answer, before it is looked up: the controller may be at it still."""
LONGEST_SECONDS = 300.0
"""Between two questions."""

Answer = TypeVar("Answer")


class Patience:
    """A scheduler that is waited for."""

    def __init__(
        self,
        scheduler: Scheduler,
        *,
        seconds: float = 3600.0,
        say: Callable[[str], None] = lambda text: None,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        """`seconds`: how long one question is asked for, at most."""
        self.scheduler, self.seconds, self.say, self.sleep = scheduler, seconds, say, sleep

    def ask(self, question: Callable[[], Answer]) -> Answer:
        """Raises SchedulerDownError where there was no answer for too long."""
        begun, pause = self.scheduler.clock(), SETTLE_SECONDS
        while True:
            try:
                return question()
            except SchedulerDownError as down:
                self._wait(down, begun, pause)
                pause = min(2 * pause, LONGEST_SECONDS)

    def submit(self, name: str, script: Path) -> str:
        """The array's number. What was taken without an answer is found by the job's name.

        Raises RefusedError, and SchedulerDownError where there was no answer for too long: then it may be submitted.
        """
        begun = self.scheduler.clock()
        while True:
            try:
                return self.scheduler.submit(script)
            except SchedulerDownError as down:
                self._wait(down, begun, SETTLE_SECONDS)
            if found := self.ask(lambda: self.scheduler.named(name)):
                self.say(f"{name} was taken by the scheduler as {found[0]}, although it did not say so")
                return found[0]

    def _wait(self, down: SchedulerDownError, begun: float, pause: float) -> None:
        wait = max(down.wait, pause)
        if self.scheduler.clock() + wait - begun > self.seconds:
            raise down
        self.say(f"{down}; asking again in {wait:.0f} s")
        self.sleep(wait)
