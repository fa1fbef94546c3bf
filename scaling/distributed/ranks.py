"""The processes that train one model together on this machine: started together, ended together. Imports no torch.

Not the communication between them, which is `scaling.distributed.group`. A rank learns which one it is from the
variables that torch's own launcher sets, so ranks that something else started, such as a cluster's scheduler, work the
same.
"""

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

from scaling.core.errors import StageError, UserError

POLL_SECONDS = 0.1
FIRST_PORT, PORTS = 15000, 17000
"""Where ranks of different jobs on one node meet: below the ports that systems give out by themselves."""
JOINED = "SCALING_JOINED_SLURM"
LAST_LINES = 15
"""How much of a failed rank's error output is shown."""


def rank() -> int:
    """Which of the ranks this process is; the first one alone writes files."""
    return int(os.environ.get("RANK", 0))


def ranks() -> int:
    return int(os.environ.get("WORLD_SIZE", 1))


def rank_on_node() -> int:
    """Which of the node's GPUs is this rank's."""
    return int(os.environ.get("LOCAL_RANK", 0))


def ranks_on_node() -> int:
    """Of each node of the job; all, where there is one node."""
    return int(os.environ.get("LOCAL_WORLD_SIZE", ranks()))


def in_slurm() -> bool:
    """Whether `join_slurm` made this process a rank."""
    return JOINED in os.environ


def join_slurm() -> None:
    """Makes a task that SLURM's srun started the rank that srun says it is. The first task runs where srun does, so
    that is where ranks meet: names of nodes need not resolve."""
    task = os.environ
    task["RANK"], task["WORLD_SIZE"] = task["SLURM_PROCID"], task["SLURM_NTASKS"]
    task["LOCAL_RANK"] = task["SLURM_LOCALID"]
    task["LOCAL_WORLD_SIZE"] = str(int(task["SLURM_NTASKS"]) // int(task["SLURM_NNODES"]))
    task["MASTER_ADDR"] = task["SLURM_LAUNCH_NODE_IPADDR"]
    task["MASTER_PORT"] = str(FIRST_PORT + int(task["SLURM_JOB_ID"]) % PORTS)
    task[JOINED] = "1"


def run_together(command: Sequence[str], count: int, logs: Path) -> None:
    """Runs a command as `count` ranks and waits for all. Where one fails, the others are killed at once: they may wait
    for it in a collective for ever. What they print goes to `logs/<rank>.log`.

    Raises UserError with the last line of a rank that exited with 2, StageError where one ended otherwise than with 0.
    """
    logs.mkdir(parents=True, exist_ok=True)
    shared = {**os.environ, "WORLD_SIZE": str(count), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(_free_port())}
    started: list[subprocess.Popen] = []
    try:
        for number in range(count):
            environment = {**shared, "RANK": str(number), "LOCAL_RANK": str(number)}
            with open(_log(logs, number), "wb") as log:
                started.append(
                    subprocess.Popen(
                        command, env=environment, stdin=subprocess.PIPE, stdout=log, stderr=subprocess.STDOUT
                    )
                )
        codes: list[int | None] = [None] * count
        while None in codes:
            time.sleep(POLL_SECONDS)
            codes = [process.poll() for process in started]
            if any(codes):
                raise _reason(logs, codes)
    finally:
        for process in started:
            process.kill()
        for process in started:
            process.wait()
            assert process.stdin is not None
            process.stdin.close()


def leave_with_starter() -> None:
    """Ends this process when the one that started it dies, however that dies: the pipe from it then ends."""

    def wait() -> None:
        while os.read(0, 1):
            pass
        os._exit(1)

    threading.Thread(target=wait, daemon=True).start()


def leave(code: int = 0) -> NoReturn:
    """Ends a rank at once: threads of the communication library that outlive Python's own end abort the process now and
    then, which would look like a failure."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def _reason(logs: Path, codes: Sequence[int | None]) -> Exception:
    """Why the first rank failed. Of several that ended at once, one that was killed comes before one that said why, and
    that before one that lost its peer."""
    number = min((number for number, code in enumerate(codes) if code), key=lambda number: _precedence(codes[number]))
    code, lines = codes[number], _log(logs, number).read_text(errors="replace").strip().splitlines()
    assert code is not None
    if code == 2 and lines:
        return UserError(lines[-1])
    how = f"was killed by {signal.Signals(-code).name}" if code < 0 else f"exited with {code}"
    return StageError(
        "\n".join([f"rank {number} of {len(codes)} {how}; {_log(logs, number)} ends:", *lines[-LAST_LINES:]])
    )


def _precedence(code: int | None) -> int:
    assert code is not None
    return 0 if code < 0 else 1 if code == 2 else 2


def _log(folder: Path, number: int) -> Path:
    return folder / f"{number}.log"


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]
