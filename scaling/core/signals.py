"""A scheduler's request to make way: SIGTERM or SIGUSR2 set a flag, and work stops where it can stop. Imports no torch.

A handler that saved by itself would do so in the middle of an update, and on one rank before the others. So training
looks at the flag between updates, where all ranks agree (`scaling.training.module`), and other work looks at it when it
says how far it is (`scaling.core.stage.Events.progress`).
"""

import signal
from types import FrameType

SIGNALS = (signal.SIGTERM, signal.SIGUSR2)
"""What SLURM sends before it kills: SIGTERM on preemption, cancellation and at the time limit; SIGUSR2 some time before
that, where a job asks for it with `--signal`. SIGUSR1 is left to NCCL."""


class StoppedError(Exception):
    """Work stopped because it was asked to; what was done so far is saved."""


_received: list[str] = []
_listening = False


def listen() -> None:
    """From now on the signals set the flag."""
    global _listening
    _listening = True
    for number in SIGNALS:
        signal.signal(number, _note)


def is_listening() -> bool:
    """Whether `listen` was called: then the handlers are ours, and no library may have them."""
    return _listening


def deafen() -> None:
    """For helper processes: the signals reach every process of a job, but only its ranks know what to do."""
    for number in SIGNALS:
        signal.signal(number, signal.SIG_IGN)


def requested() -> bool:
    """Whether a signal has come."""
    return bool(_received)


def check() -> None:
    """Raises StoppedError where a signal has come."""
    if _received:
        raise StoppedError(f"stopped by {_received[0]}")


def _note(number: int, frame: FrameType | None) -> None:
    _received.append(signal.Signals(number).name)
