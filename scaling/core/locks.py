"""Locks of files: one process at a time works in a folder. Not which of several waiting processes comes next.

The locks are the kernel's (flock), so a lock is free as soon as its holder has died, however it died. File systems that
cluster nodes share have to support them across nodes: NFS 4, Lustre mounted with `flock` and GPFS do.
"""

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from scaling.core import signals
from scaling.core.errors import UserError
from scaling.core.store import FULL, no_space

POLL_SECONDS = 0.1
"""Time between two attempts to take a lock that another process holds."""


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Holds the lock of a file, which is created if it does not exist, and waits until the lock is free.

    Raises StoppedError where a signal asks this process to stop while it waits, and UserError where the file cannot be
    written or its file system has no locks.
    """
    from filelock import FileLock, Timeout  # takes 20 ms, which commands that only read do not have to spend

    # filelock's fallback for file systems without locks is a marker file, which would outlive a holder that is killed.
    lock = FileLock(path, fallback_to_soft=False, poll_interval=POLL_SECONDS)
    try:
        lock.acquire(cancel_check=signals.requested)
    except Timeout:
        signals.check()
        raise
    except OSError as error:
        if error.errno in FULL:
            raise no_space(path) from None
        raise UserError(f"{path}: cannot be locked ({error.strerror}); choose another folder or file system") from None
    try:
        yield
    finally:
        lock.release()


def is_locked(path: Path) -> bool:
    """Whether a process holds the lock of a file. Needs no permission to write the file."""
    # filelock can only take a lock, and for that it opens the file for writing and creates it if it does not exist.
    try:
        with open(path) as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return False
    return False
