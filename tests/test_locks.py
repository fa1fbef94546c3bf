"""Locks are the kernel's: held by one process at a time, free when it is killed, interruptible while waiting."""

import errno
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from scaling.core import signals
from scaling.core.errors import NoSpaceError, UserError
from scaling.core.locks import is_locked, locked

HOLD = """
import sys, time
from pathlib import Path
from scaling.core.locks import locked
with locked(Path(sys.argv[1])):
    print("locked", flush=True)
    time.sleep(60)
"""


@pytest.fixture
def holder(tmp_path):
    """Another process that holds the lock."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, tmp_path / "lock"], stdout=subprocess.PIPE, cwd=Path(__file__).parents[1]
    )
    assert process.stdout.readline() == b"locked\n"
    yield process
    process.kill()
    process.wait()


def test_a_killed_holder_frees_the_lock(tmp_path, holder):
    assert is_locked(tmp_path / "lock")
    holder.send_signal(signal.SIGKILL)
    holder.wait()
    assert not is_locked(tmp_path / "lock")
    with locked(tmp_path / "lock"):
        pass


def test_asking_does_not_create_or_take_the_lock(tmp_path):
    assert not is_locked(tmp_path / "lock")
    assert not (tmp_path / "lock").exists()
    with locked(tmp_path / "lock"):
        assert is_locked(tmp_path / "lock")
    assert not is_locked(tmp_path / "lock")


def test_a_signal_ends_the_waiting(tmp_path, holder, monkeypatch):
    monkeypatch.setattr(signals, "_received", [])
    threading.Timer(0.3, signals._received.append, ["SIGTERM"]).start()
    with pytest.raises(signals.StoppedError, match="SIGTERM"), locked(tmp_path / "lock"):
        pytest.fail("another process holds the lock")


@pytest.mark.parametrize("number", [errno.ENOSYS, errno.ENOLCK])
def test_a_file_system_without_locks_is_an_error_and_no_marker_file_is_used(tmp_path, monkeypatch, number):
    def fail(descriptor, operation):
        raise OSError(number, "no locks")

    monkeypatch.setattr("fcntl.flock", fail)
    with pytest.raises(UserError, match="cannot be locked"), locked(tmp_path / "lock"):
        pytest.fail("the file system has no locks")


def test_a_lock_that_cannot_be_created_is_an_error(tmp_path):
    (tmp_path / "file").touch()
    with (
        pytest.raises(UserError, match="file/lock: cannot be locked"),
        locked(tmp_path / "file/lock"),
    ):
        pytest.fail("there is no such folder")


def test_a_full_disk_is_named(tmp_path, monkeypatch):
    def full(*arguments):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("fcntl.flock", full)
    with pytest.raises(NoSpaceError, match="no space left"), locked(tmp_path / "lock"):
        pytest.fail("the disk is full")
