"""Starting daemons that outlive us, and finding and ending exactly those again.

A daemon is recognised by a variable in its environment, not by a pid in a file: a pid may belong to somebody else by
now, and a start that was killed half-way leaves daemons without one. SLURM hands the variable on to what a node runs
(slurmstepd) but not to jobs, which are found as descendants.
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
"""Holds the folder of the testbed that a process belongs to."""
SYSTEM_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
"""The daemons are in /usr/sbin, which users often have not on their PATH."""
STEP_SECONDS = 60
"""The longest that any daemon may take to come up."""
LAST_LINES = 8
_CHILDREN: list["subprocess.Popen[bytes]"] = []
"""The daemons that this very process started."""


def program(name: str) -> str | None:
    """The path of a system program."""
    return shutil.which(name, path=SYSTEM_PATH)


def daemon_environment(folder: Path) -> dict[str, str]:
    """A clean environment: jobs inherit part of it, and nothing of the caller's belongs there."""
    return {"PATH": SYSTEM_PATH, "LANG": "C.UTF-8", "SLURM_CONF": f"{folder}/slurm.conf", MARK: str(folder)}


def launch(folder: Path, name: str, command: Sequence[str], ready: Callable[[], bool]) -> None:
    """Starts a daemon in the foreground of a session of its own and waits until it is ready.

    Its output goes to log/<name>.out. Raises UserError with the end of its log where it dies or stays silent.
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
    """Runs a command to its end. Raises UserError with the end of its output where it fails."""
    log = folder / "log" / f"{name}.out"
    with open(log, "ab") as output:
        try:
            done = subprocess.run(
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
    if done.returncode:
        raise UserError(_with_log(f"{name} failed with exit code {done.returncode}", log))


def wait_until(ready: Callable[[], bool], otherwise: str, log: Path, ended: Callable[[], str | bool]) -> None:
    """Waits for a condition. Raises UserError, with the end of a log, after STEP_SECONDS or where `ended` says why."""
    deadline = time.monotonic() + STEP_SECONDS
    while not ready():
        if why := ended():
            raise UserError(_with_log(str(why), log))
        if time.monotonic() > deadline:
            raise UserError(_with_log(otherwise, log))
        time.sleep(0.05)


def _with_log(message: str, log: Path) -> str:
    """A message with the last lines of a daemon's output, and of the log that SLURM's daemons write beside it."""
    lines: list[str] = []
    for path in (log.with_suffix(".log"), log):
        if path.exists():
            lines += path.read_text(errors="replace").splitlines()[-LAST_LINES:]
    return "\n".join([f"{message}; {log} ends:", *(f"    {line}" for line in lines)])


def daemons(folder: Path) -> dict[int, str]:
    """The processes that carry this testbed's mark: pid -> name."""
    mark = f"{MARK}={folder}".encode()
    found = {}
    for pid in _pids():
        try:
            if mark in Path(f"/proc/{pid}/environ").read_bytes().split(b"\0"):
                found[pid] = Path(f"/proc/{pid}/comm").read_text().strip()
        except OSError:  # it has ended, or is not ours to look at
            continue
    return found


def processes(folder: Path) -> dict[int, str]:
    """The daemons and everything that they started, jobs included: pid -> name."""
    found = daemons(folder)
    children: dict[int, list[tuple[int, str]]] = {}
    for pid in _pids():
        try:
            name, rest = Path(f"/proc/{pid}/stat").read_text().split("(", 1)[1].rsplit(")", 1)
        except OSError:
            continue
        state, parent = rest.split()[:2]
        if state != "Z":
            children.setdefault(int(parent), []).append((pid, name))
    waiting = list(found)
    while waiting:
        for pid, name in children.get(waiting.pop(), []):
            if pid not in found:
                found[pid] = name
                waiting.append(pid)
    return found


def end_all(folder: Path) -> None:
    """Ends the daemons and everything that they started.

    By SIGKILL, because the state that a daemon would save is thrown away; stopped first, because a job's process that
    starts another one while we look would lose its ancestors, and we would lose sight of it.
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
            child.poll()  # or it stays as a zombie for as long as we live
        time.sleep(0.02)


def _pids() -> list[int]:
    return [int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdigit()]


def _signal(pid: int, number: signal.Signals) -> None:
    with suppress(ProcessLookupError):
        os.kill(pid, number)
