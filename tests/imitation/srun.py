"""The imitated srun: the tasks of a job are processes of this machine. If one fails, all are ended."""

import os
import re
import subprocess
import sys
import time

KILL_WAIT = 3


def main(name, folder, arguments):
    """Runs the command once per task and gives the highest exit code. Only the options for files are read."""
    chosen = {}
    while arguments and arguments[0].startswith("-"):
        key, _, value = arguments.pop(0).partition("=")
        if key in ("--output", "--error") and not value:  # both spellings are used
            value = arguments.pop(0)
        chosen[key] = value
    per_node = int(os.environ["SLURM_NTASKS_PER_NODE"])
    tasks = [_start(rank, per_node, chosen, arguments) for rank in range(int(os.environ["SLURM_NTASKS"]))]
    while any(task.poll() is None for task in tasks):
        if any(task.poll() for task in tasks):
            _end(tasks)
        time.sleep(0.01)
    return max(task.returncode if task.returncode >= 0 else 128 - task.returncode for task in tasks)


def _end(tasks):
    """What --kill-on-bad-exit=1 does: SIGTERM, and SIGKILL for tasks that do not end."""
    time.sleep(0.2)
    for task in tasks:
        task.terminate()
    deadline = time.monotonic() + KILL_WAIT
    while any(task.poll() is None for task in tasks) and time.monotonic() < deadline:
        time.sleep(0.01)
    for task in tasks:
        task.kill()


def _start(rank, per_node, chosen, command):
    variables = {
        **os.environ,
        "SLURM_PROCID": str(rank),
        "SLURM_NODEID": str(rank // per_node),
        "SLURM_LOCALID": str(rank % per_node),
        "SLURM_LAUNCH_NODE_IPADDR": "127.0.0.1",
        "SLURM_STEP_ID": "0",
    }
    output = _open(chosen.get("--output"), variables, sys.stdout)
    error = _open(chosen.get("--error"), variables, output)
    return subprocess.Popen(command, env=variables, stdin=subprocess.DEVNULL, stdout=output, stderr=error)


def _open(pattern, variables, default):
    return open(fill_in(pattern, variables), "ab") if pattern else default


def fill_in(pattern, variables):
    """Replaces SLURM's %j, %A, %a, %t and %x in the name of a file."""
    values = {
        "j": variables["SLURM_JOB_ID"],
        "A": variables.get("SLURM_ARRAY_JOB_ID", variables["SLURM_JOB_ID"]),
        "a": variables.get("SLURM_ARRAY_TASK_ID", "4294967294"),
        "t": variables["SLURM_PROCID"],
        "x": variables["SLURM_JOB_NAME"],
    }
    return re.sub(r"%([jAatx])", lambda match: values[match[1]], pattern)
