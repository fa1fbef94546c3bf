"""The ranks: the processes that train one model together. This file starts them on one machine and ends them, and
tells each process which rank it is. Imports no torch.

The communication between ranks is in `scaling.distributed.group`. A rank reads its number from the environment
variables that torch's own launcher sets, so ranks that were started otherwise, such as by a cluster's scheduler, work
the same.
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
"""Time between two looks at the started ranks."""
FIRST_PORT, PORTS = 15000, 17000
"""The first port, and the number of ports, at which the ranks of SLURM jobs meet. They are below the ports that
operating systems assign by themselves."""
JOINED_VARIABLE = "SCALING_JOINED_SLURM"
"""Environment variable that marks a process that `join_slurm` made a rank."""
SHOWN_LINES = 15
"""Number of last lines of a failed rank's output that the error message shows."""


def rank() -> int:
    """The number of this process among the ranks, from 0. Only the first rank writes files."""
    return int(os.environ.get("RANK", 0))


def world_size() -> int:
    """The number of ranks: 1 in a process that trains alone."""
    return int(os.environ.get("WORLD_SIZE", 1))


def rank_on_node() -> int:
    """The number of this rank on its node, which is also the number of its GPU."""
    return int(os.environ.get("LOCAL_RANK", 0))


def ranks_on_node() -> int:
    """The number of ranks on each node of the job. Without this information, all ranks are on one node."""
    return int(os.environ.get("LOCAL_WORLD_SIZE", world_size()))


def in_slurm() -> bool:
    """Whether `join_slurm` made this process a rank."""
    return JOINED_VARIABLE in os.environ


def join_slurm() -> None:
    """Makes this process, a task that SLURM's srun started, the rank with the number of the task. The ranks meet on the
    node where srun runs, because the first task runs there; so the names of nodes need not resolve."""
    variables = os.environ
    variables["RANK"], variables["WORLD_SIZE"] = variables["SLURM_PROCID"], variables["SLURM_NTASKS"]
    variables["LOCAL_RANK"] = variables["SLURM_LOCALID"]
    variables["LOCAL_WORLD_SIZE"] = str(int(variables["SLURM_NTASKS"]) // int(variables["SLURM_NNODES"]))
    variables["MASTER_ADDR"] = variables["SLURM_LAUNCH_NODE_IPADDR"]
    variables["MASTER_PORT"] = str(FIRST_PORT + int(variables["SLURM_JOB_ID"]) % PORTS)
    variables[JOINED_VARIABLE] = "1"


def run_together(command: Sequence[str], count: int, logs: Path) -> None:
    """Runs a command as `count` ranks and waits until all have ended. If one fails, the others are killed at once,
    because they might wait for it in a collective without end. The output of a rank goes to `logs/<rank>.log`.

    Raises UserError with the last line of the output if a rank exited with code 2, and StageError if one ended with
    another code than 0.
    """
    logs.mkdir(parents=True, exist_ok=True)
    shared = {**os.environ, "WORLD_SIZE": str(count), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(_free_port())}
    started: list[subprocess.Popen[bytes]] = []
    try:
        for number in range(count):
            environment = {**shared, "RANK": str(number), "LOCAL_RANK": str(number)}
            with open(_log_path(logs, number), "wb") as log:
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
                raise _failure(logs, codes)
    finally:
        for process in started:
            process.kill()
        for process in started:
            process.wait()
            assert process.stdin is not None
            process.stdin.close()


def exit_with_parent() -> None:
    """Ends this process when the process that started it ends, for whatever reason: the pipe from it then ends."""

    def wait() -> None:
        while os.read(0, 1):
            pass
        os._exit(1)

    threading.Thread(target=wait, daemon=True).start()


def exit_now(code: int = 0) -> NoReturn:
    """Ends this process at once, without Python's clean-up. During the clean-up, threads of the communication library
    sometimes abort the process, which would look like a failure."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def _failure(logs: Path, codes: Sequence[int | None]) -> Exception:
    """The exception that tells why the ranks failed. If several ended at once, it tells of a rank that was killed,
    otherwise of one that reported a user's mistake, otherwise of any, which may only have lost its peer."""
    number = min((number for number, code in enumerate(codes) if code), key=lambda number: _precedence(codes[number]))
    code, lines = codes[number], _log_path(logs, number).read_text(errors="replace").strip().splitlines()
    assert code is not None
    if code == 2 and lines:
        return UserError(lines[-1])
    end = f"was killed by {signal.Signals(-code).name}" if code < 0 else f"exited with {code}"
    return StageError(
        "\n".join([f"rank {number} of {len(codes)} {end}; {_log_path(logs, number)} ends with:", *lines[-SHOWN_LINES:]])
    )


def _precedence(code: int | None) -> int:
    """A smaller number for the exit code of a rank that more likely caused the failure."""
    assert code is not None
    return 0 if code < 0 else 1 if code == 2 else 2


def _log_path(folder: Path, number: int) -> Path:
    return folder / f"{number}.log"


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
