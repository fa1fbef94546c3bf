"""Starts daemons that outlive this process, and later finds and ends exactly those daemons.

A daemon is recognized by a variable in its environment, not by a pid in a file: the pid may belong to another process
by now, and a start that was killed half-way leaves daemons without a file. SLURM passes the variable to the processes
that a node runs (slurmstepd) but not to jobs, which are found as descendants.
"""

import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

from scaling.core.errors import UserError

MARK = "SCALING_SLURM_TESTBED"
"""Environment variable that holds the folder of the testbed that a process belongs to."""
SYSTEM_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
"""Folders with the daemons: users often do not have /usr/sbin on their PATH."""
STEP_SECONDS = 60
"""Seconds that a daemon may take to start."""
LAST_LINES = 8
_CHILDREN: list["subprocess.Popen[bytes]"] = []
"""The daemons that this process itself started."""


def program(name: str) -> str | None:
    """The path of a system program, or None where it is not installed."""
    return shutil.which(name, path=SYSTEM_PATH)


def daemon_environment(folder: Path) -> dict[str, str]:
    """The environment of daemons, without the caller's variables, because jobs inherit part of it."""
    return {"PATH": SYSTEM_PATH, "LANG": "C.UTF-8", "SLURM_CONF": f"{folder}/slurm.conf", MARK: str(folder)}


def launch(folder: Path, name: str, command: Sequence[str], ready: Callable[[], bool]) -> None:
    """Starts a daemon in the foreground of a session of its own and waits until it is ready.

    Its output goes to log/<name>.out. Raises UserError with the end of its log where it dies or does not become ready.
    """
    log = folder / "log" / f"{name}.out"
    with open(log, "ab") as output:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            env=daemon_environment(folder),
            cwd=folder,
            start_new_session=True,
        )
    _CHILDREN.append(process)
    wait_until(
        ready, f"{name} did not come up in {STEP_SECONDS} s", log, lambda: process.poll() is not None and f"{name} died"
    )


def run_step(folder: Path, name: str, command: Sequence[str]) -> None:
    """Runs a command until it ends. Raises UserError with the end of its output where it fails."""
    log = folder / "log" / f"{name}.out"
    with open(log, "ab") as output:
        try:
            process = subprocess.run(
                command,
                check=False,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env=daemon_environment(folder),
                cwd=folder,
                timeout=STEP_SECONDS,
            )
        except subprocess.TimeoutExpired:
            raise UserError(_with_log(f"{name} did not end in {STEP_SECONDS} s", log)) from None
    if process.returncode:
        raise UserError(_with_log(f"{name} failed with exit code {process.returncode}", log))


def wait_until(ready: Callable[[], bool], timeout_message: str, log: Path, failure: Callable[[], str | bool]) -> None:
    """Waits for a condition. Raises UserError, with the end of a log, after STEP_SECONDS or where `ended` gives a
    reason."""
    deadline = time.monotonic() + STEP_SECONDS
    while not ready():
        if reason := failure():
            raise UserError(_with_log(str(reason), log))
        if time.monotonic() > deadline:
            raise UserError(_with_log(timeout_message, log))
        time.sleep(0.05)


def _with_log(message: str, log: Path) -> str:
    """A message with the last lines of a daemon's output and of its log file, which SLURM's daemons write beside it."""
    lines: list[str] = []
    for path in (log.with_suffix(".log"), log):
        if path.exists():
            lines += path.read_text(errors="replace").splitlines()[-LAST_LINES:]
    return "\n".join([f"{message}; {log} ends:", *(f"    {line}" for line in lines)])


def daemons(folder: Path) -> dict[int, str]:
    """The names of the processes that have this testbed's mark, by pid."""
    mark = f"{MARK}={folder}".encode()
    names = {}
    for pid in _pids():
        try:
            if mark in Path(f"/proc/{pid}/environ").read_bytes().split(b"\0"):
                names[pid] = Path(f"/proc/{pid}/comm").read_text().strip()
        except OSError:  # it has ended, or belongs to another user
            continue
    return names


def processes(folder: Path) -> dict[int, str]:
    """The names of the daemons and of all processes that they started, jobs included, by pid."""
    names = daemons(folder)
    children: dict[int, list[tuple[int, str]]] = {}
    for pid in _pids():
        try:
            name, rest = Path(f"/proc/{pid}/stat").read_text().split("(", 1)[1].rsplit(")", 1)
        except OSError:
            continue
        state, parent = rest.split()[:2]
        if state != "Z":
            children.setdefault(int(parent), []).append((pid, name))
    waiting = list(names)
    while waiting:
        for pid, name in children.get(waiting.pop(), []):
            if pid not in names:
                names[pid] = name
                waiting.append(pid)
    return names


def end_all(folder: Path) -> None:
    """Ends the daemons and all processes that they started.

    They are killed by SIGKILL, because the state that a daemon would save is not needed. They are stopped first,
    because otherwise a job's process could start another process meanwhile, which would no longer be found as a
    descendant.
    """
    stopped: set[int] = set()
    while new := processes(folder).keys() - stopped:
        for pid in new:
            _signal(pid, signal.SIGSTOP)
        stopped |= new
    for pid in stopped:
        _signal(pid, signal.SIGKILL)
    while any(Path(f"/proc/{pid}").exists() for pid in stopped):
        for child in _CHILDREN:
            child.poll()  # otherwise it stays a zombie as long as this process runs
        time.sleep(0.02)


def _pids() -> list[int]:
    return [int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdigit()]


def _signal(pid: int, number: signal.Signals) -> None:
    with suppress(ProcessLookupError):
        os.kill(pid, number)
