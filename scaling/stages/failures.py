"""The event that an attempt writes when an exception ends it. `scaling.core.attempts` reads it and decides about
another attempt."""

import time

from scaling.core.errors import NoSpaceError, UserError
from scaling.core.signals import StoppedError

MESSAGE_LENGTH = 2000
"""Characters of the message that are kept. Attempts are read from the ends of their logs, so it is short; the job's own
log has the whole message."""


def failure_event(error: Exception, deadline: float) -> dict[str, str | bool]:
    """The fields of the event. A stop by a signal after `deadline`, in seconds since the epoch, counts as a time limit
    that was reached."""
    if isinstance(error, StoppedError):
        return {"stopped": str(error)[:MESSAGE_LENGTH], "out_of_time": time.time() > deadline}
    if isinstance(error, UserError):
        no_space = isinstance(error, NoSpaceError)
        return {"error": str(error)[:MESSAGE_LENGTH], "user_error": True, "no_space": no_space}
    message = f"{type(error).__name__}: {error}"[:MESSAGE_LENGTH]
    return {"error": message, "user_error": False, "out_of_memory": _is_out_of_memory(error)}


def _is_out_of_memory(error: Exception) -> bool:
    """Whether memory ran out. torch has an exception class for the memory of a GPU, but none for that of a CPU."""
    names = {kind.__name__ for kind in type(error).__mro__}
    return bool(names & {"MemoryError", "OutOfMemoryError"}) or "can't allocate memory" in str(error)
