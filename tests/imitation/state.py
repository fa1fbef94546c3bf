"""The imitated cluster's state: one JSON file under a lock, and what can happen to a job in it.

Imports only small modules of the standard library, and so no filelock: every imitated command loads this file.
"""

import contextlib
import fcntl
import json
import os
import re
import time

CLUSTER = {
    "accounting": True,
    "max_array_size": 17,
    "partitions": ["main", "high"],
    "nodes": ["n0", "n1"],
    "gpu_type": "h100",
    "gpus": 8,
    "cpus": 16,
    "mb": 20000,
    "seed": 0,
}
"""The testbed's (slurm/testbed/settings.py)."""
FAULTS = {
    "down": False,
    "sbatch_refuses": 0.0,
    "sbatch_loses_answer": 0.0,
    "sbatch_hangs": 0.0,
    "hang_seconds": 60.0,
    "squeue_hangs": False,
    "squeue_lies_empty": False,
}
LIVE = ("PENDING", "RUNNING", "COMPLETING")
REASONS = {"FAILED": "NonZeroExitCode", "TIMEOUT": "TimeLimit", "NODE_FAIL": "NodeDown", "OUT_OF_MEMORY": "OutOfMemory"}


@contextlib.contextmanager
def opened(folder):
    """The state, under a lock; its changes are written at the end."""
    with open(os.path.join(folder, "lock"), "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        path = os.path.join(folder, "state.json")
        with open(path) as file:
            before = file.read()
        state = json.loads(before)
        try:
            yield state
        finally:  # also where a command fails: it has drawn a random number
            after = json.dumps(state)
            if after != before:
                with open(path + ".tmp", "w") as file:
                    file.write(after)
                os.replace(path + ".tmp", path)


def empty():
    return {"cluster": dict(CLUSTER), "faults": dict(FAULTS), "next": 1, "draws": 0, "jobs": []}


def label(job):
    """The id of a job in squeue and sacct."""
    return job["array"] if job["index"] is None else f"{job['array']}_{job['index']}"


def ended(job):
    return job["state"] not in LIVE


def find(state, job_id):
    """The jobs that SLURM understands by an id: a job, a whole array, an index, or indices as in 12_[1-3]."""
    base, _, index_part = job_id.partition("_")
    known = [job for job in state["jobs"] if not job["forgotten"]]
    if not index_part:
        return [job for job in known if base in (job["array"], job["raw"])]
    numbers = indices(index_part.strip("[]"))
    return [job for job in known if job["array"] == base and job["index"] in numbers]


def indices(text):
    """The numbers [0, 1, 2, 5] for `0-2,5`. Raises ValueError."""
    numbers = []
    for part in text.split(","):
        first, _, last = part.partition("-")
        part_numbers = range(int(first), int(last or first) + 1)
        if not part_numbers:
            raise ValueError(text)
        numbers += part_numbers
    return numbers


def blockers(state, job):
    """The jobs that a job waits for. As in SLURM, a job that is unknown counts as ended."""
    return [other for name in job["after"] for other in find(state, name) if not ended(other)]


def reason(state, job):
    """The reason that squeue gives for a job that waits."""
    if job["state"] != "PENDING" or job["reason"] != "None":
        return job["reason"]
    if blockers(state, job):
        return "Dependency"
    if job["nodes"] > len(state["cluster"]["nodes"]):
        return "PartitionNodeLimit"
    running = [other for other in state["jobs"] if other["array"] == job["array"] and other["state"] == "RUNNING"]
    if job["throttle"] and len(running) >= job["throttle"]:
        return "JobArrayTaskLimit"
    return "None"


def may_start(state, job):
    return job["state"] == "PENDING" and reason(state, job) in ("None", "BeginTime")


def start(state, job):
    """Starts a job. An index gets a number of its own then; the last index to start gets the number of the array."""
    assert may_start(state, job), f"{label(job)} cannot start: {job['state']}, {reason(state, job)}"
    if job["raw"] is None:
        others = [each for each in state["jobs"] if each["array"] == job["array"] and each["raw"] is None]
        job["raw"] = str(state["next"]) if len(others) > 1 else job["array"]
        state["next"] += len(others) > 1
    nodes = state["cluster"]["nodes"][: job["nodes"]]
    job.update(state="RUNNING", reason="None", start=time.time(), end=None, node_list=nodes)


def end(job, how, exit_code="0:0"):
    """Ends a running job in one of SLURM's states."""
    job.update(state=how, reason=REASONS.get(how, "None"), end=time.time(), exit_code=exit_code)


def cancel(state, jobs):
    """Ends jobs, whether they run or not."""
    reasons = [reason(state, job) for job in jobs]
    for job, last_reason in zip(jobs, reasons, strict=True):
        job.update(state="CANCELLED", reason=last_reason, end=time.time())


def requeue(job):
    """Lets a job wait again, whatever its state: SLURM restarts even jobs that were cancelled."""
    again = job["start"] is not None
    job.update(state="PENDING", reason="BeginTime" if again else "None", restarts=job["restarts"] + again)
    job.update(start=None, end=None, node_list=[], exit_code="0:0")


def hosts(names):
    """The names of nodes as SLURM abbreviates them, such as `n[0-1]`."""
    if len(names) < 2:
        return "".join(names)
    prefix = re.match(r"\D*", names[0])[0]
    return f"{prefix}[{ranges([int(name[len(prefix) :]) for name in names])}]"


def ranges(numbers):
    """The text `0-2,5` for [0, 1, 2, 5]."""
    parts = []
    for number in sorted(numbers):
        if parts and parts[-1][1] == number - 1:
            parts[-1][1] = number
        else:
            parts.append([number, number])
    return ",".join(str(a) if a == b else f"{a}-{b}" for a, b in parts)
