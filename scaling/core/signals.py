"""A scheduler's request to stop: SIGTERM or SIGUSR2 set a flag, and the work stops at the next safe point. Imports no
torch.

A signal handler that saved a checkpoint itself would do so in the middle of an update, and on one rank before the
others. So training reads the flag between updates, where all ranks agree (`scaling.training.module`), and other work
reads it whenever it reports its progress (`scaling.core.events.Events.progress`).
"""

import signal
from types import FrameType

SIGNALS = (signal.SIGTERM, signal.SIGUSR2)
"""The signals that SLURM sends before it kills a job: SIGTERM on preemption, on cancellation and at the time limit, and
SIGUSR2 some time before the time limit, which our jobs ask for with `--signal`. SIGUSR1 is not used here because NCCL
uses it."""


class StoppedError(Exception):
    """Work stopped because a signal asked for it. What was done before is saved."""


_received: list[str] = []
_listening = False


def listen() -> None:
    """Installs the handlers: from now on the signals set the flag."""
    global _listening
    _listening = True
    for number in SIGNALS:
        signal.signal(number, _record)


def is_listening() -> bool:
    """Whether `listen` was called. Then no library may replace the handlers."""
    return _listening


def ignore() -> None:
    """Ignores the signals, in helper processes: the signals reach every process of a job, but only its ranks act on
    them."""
    for number in SIGNALS:
        signal.signal(number, signal.SIG_IGN)


def requested() -> bool:
    """Whether a signal has arrived."""
    return bool(_received)


def check() -> None:
    """Raises StoppedError if a signal has arrived."""
    if _received:
        raise StoppedError(f"stopped by {_received[0]}")


def _record(number: int, frame: FrameType | None) -> None:
    _received.append(signal.Signals(number).name)
