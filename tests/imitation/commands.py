"""Runs an imitated SLURM command: what each command does is in the files beside. See `tests.imitation`."""

import json
import os
import sys
import time

from tests.imitation.answers import CommandError
from tests.imitation.control import scancel, scontrol
from tests.imitation.queries import sacct, sinfo, squeue
from tests.imitation.sbatch import sbatch

COMMANDS = {
    "sbatch": sbatch,
    "squeue": squeue,
    "sacct": sacct,
    "sinfo": sinfo,
    "scontrol": scontrol,
    "scancel": scancel,
}


def main(name, folder, arguments):
    """Runs one command, records it in calls.jsonl, and gives its exit code."""
    call = f"{time.time()} {os.getpid()}"
    _note(folder, {"call": call, "time": time.time(), "command": [name, *arguments]})
    try:
        output, pause = COMMANDS[name](folder, arguments), 0.0
        if isinstance(output, tuple):
            output, pause = output
        time.sleep(pause)  # with the state unlocked: a command that hangs must not block the others
        sys.stdout.write(output)
        code = 0
    except CommandError as error:
        print(error.message, file=sys.stderr)
        code = error.code
    _note(folder, {"call": call, "code": code})
    return code


def _note(folder, row):
    with open(os.path.join(folder, "calls.jsonl"), "a") as file:
        file.write(json.dumps(row) + "\n")
