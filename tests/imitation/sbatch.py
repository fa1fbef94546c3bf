"""The imitated sbatch."""

import os
import re
import shlex
import time
import zlib

from tests.imitation import state as cluster
from tests.imitation.answers import UNREACHABLE, CommandError, not_imitated, unless_down

TIMED_OUT = "sbatch: error: Batch job submission failed: Socket timed out on send/recv operation"
SBATCH = (
    *("--parsable", "--job-name", "--array", "--dependency", "--time", "--partition", "--gpus-per-node", "--nodes"),
    *("--ntasks-per-node", "--cpus-per-task", "--mem", "--requeue", "--no-requeue", "--output", "--error", "--signal"),
    *("--open-mode", "--account", "--qos", "--constraint", "--exclude", "--reservation", "--wckey", "--begin"),
)
TIME = re.compile(r"(\d+-)?\d+(:\d+){0,2}")


def sbatch(folder, arguments):
    chosen, script, text = _read_script(arguments)
    with cluster.opened(folder) as state:
        unless_down(state, "sbatch")
        if _draw(state, "sbatch_refuses"):
            raise CommandError(f"sbatch: error: Batch job submission failed: {UNREACHABLE}")
        number = _submit(state, chosen, script)
        _keep(os.path.join(folder, "scripts", number), text)
        lost, hangs = _draw(state, "sbatch_loses_answer"), _draw(state, "sbatch_hangs")
        pause = state["faults"]["hang_seconds"] if hangs else 0.0
    if lost:
        raise CommandError(TIMED_OUT)
    return (f"{number}\n" if "--parsable" in chosen else f"Submitted batch job {number}\n"), pause


def _read_script(arguments):
    """The options, of which those of the command line come first, the path of the script and its text."""
    path = next((argument for argument in arguments if not argument.startswith("-")), None)
    if path is None:
        raise not_imitated("sbatch without a script")
    try:
        with open(path) as file:
            text = file.read()
    except OSError:
        raise CommandError(f"sbatch: error: Unable to open file {path}") from None
    if not text.startswith("#!"):
        raise CommandError(
            "sbatch: error: This does not look like a batch script.  The first\n"
            "sbatch: error: line must start with #! followed by the path to an interpreter.\n"
            "sbatch: error: For instance: #!/bin/sh"
        )
    in_script = []
    for line in text.splitlines():
        if line.startswith("#SBATCH"):
            in_script += shlex.split(line, comments=False)[1:]
        elif line.strip() and not line.startswith("#"):
            break
    chosen = {}
    for argument in [*in_script, *(argument for argument in arguments if argument != path)]:
        key, equals, value = argument.partition("=")
        if key not in SBATCH:
            raise CommandError(
                f"sbatch: unrecognized option '{argument}'\nTry \"sbatch --help\" for more information", 255
            )
        chosen[key] = value if equals else True
    return chosen, os.path.abspath(path), text


def _submit(state, chosen, script):
    """Makes the checks that SLURM makes, in its order, and adds the jobs. Gives the number of the array."""
    settings = state["cluster"]
    failed = "sbatch: error: Batch job submission failed: "
    if not TIME.fullmatch(chosen.get("--time", "1")):
        raise CommandError("sbatch: error: Invalid --time specification", 255)
    partition = chosen.get("--partition", settings["partitions"][0])
    if partition not in settings["partitions"]:
        raise CommandError(
            f"sbatch: error: invalid partition specified: {partition}\n{failed}Invalid partition name specified"
        )
    listed, _, throttle = chosen.get("--array", "").partition("%")
    try:
        indices = cluster.indices(listed) if listed else [None]
        if listed and max(indices) >= settings["max_array_size"]:
            raise ValueError(listed)
    except ValueError:
        raise CommandError(f"{failed}Invalid job array specification") from None
    kind, _, count = chosen.get("--gpus-per-node", "0").rpartition(":")
    memory = chosen.get("--mem", "0M")
    if not re.fullmatch(r"\d+M", memory):
        raise not_imitated(f"sbatch --mem={memory}")
    if int(memory[:-1]) > settings["mb"]:
        raise CommandError(
            f"sbatch: error: Memory specification can not be satisfied\n{failed}"
            "Requested node configuration is not available"
        )
    if int(count) > settings["gpus"] or kind not in ("", settings["gpu_type"]):
        raise CommandError(f"{failed}Requested node configuration is not available")
    kind, _, after = chosen.get("--dependency", "afterany:").partition(":")
    if kind != "afterany":
        raise not_imitated(f"sbatch --dependency={kind}")
    if "--constraint" in chosen:
        raise CommandError(f"{failed}Invalid feature specification")
    number = str(state["next"])
    state["next"] += 1
    for index in indices:
        state["jobs"].append(
            {
                "array": number,
                "index": index,
                "raw": number if index is None else None,
                "name": chosen.get("--job-name", os.path.basename(script)),
                "partition": partition,
                "state": "PENDING",
                "reason": "None",
                "after": [job for job in after.split(":") if job],
                "throttle": int(throttle or 0),
                "nodes": int(chosen.get("--nodes", 1)),
                "gpus": int(count),
                "tasks_per_node": int(chosen.get("--ntasks-per-node", 1)),
                "requeue": "--no-requeue" not in chosen,
                "restarts": 0,
                "script": script,
                "output": chosen.get("--output", "slurm-%j.out" if index is None else "slurm-%A_%a.out"),
                "folder": os.getcwd(),
                "submit": time.time(),
                "start": None,
                "end": None,
                "node_list": [],
                "exit_code": "0:0",
                "forgotten": False,
            }
        )
    return number


def _keep(path, text):
    """Keeps the script: SLURM runs it as it was when it was submitted."""
    with open(path, "w") as file:
        file.write(text)
    os.chmod(path, 0o700)


def _draw(state, fault):
    """Whether this call has a fault: the same for the same seed and order of calls."""
    state["draws"] += 1
    seed = f"{state['cluster']['seed']} {state['draws']}".encode()
    return zlib.crc32(seed) / 2**32 < state["faults"][fault]
