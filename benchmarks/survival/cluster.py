"""Actions on the jobs of a testbed, and observations of them."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from benchmarks.survival.task import FaultCase
from scaling.core.store import read_document, read_jsonl
from slurm.testbed import Testbed

QUIET_SECONDS = 6.0
"""Seconds without a job in the queue after which none is expected any more."""


def start(bed: Testbed, cases: Sequence[FaultCase], path: str = "") -> list["subprocess.Popen[bytes]"]:
    """Submits the cases at the same time. `path` comes first on PATH."""
    started = []
    for case in cases:
        case.path.mkdir(parents=True)
        case.write()
        environment = {**os.environ, **bed.environment, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
        environment["PYTHONPATH"] = str(Path(__file__).parents[2])
        environment["PATH"] = f"{path}:{environment['PATH']}" if path else environment["PATH"]
        with open(case.path / "start.log", "ab") as log:
            started.append(
                subprocess.Popen(
                    [sys.executable, "-m", "benchmarks.survival.start", case.folder],
                    env=environment,
                    stdout=log,
                    stderr=log,
                    cwd=Path(__file__).parents[2],
                )
            )
    return started


def queue(bed: Testbed, case: FaultCase) -> list[list[str]]:
    """The jobs of a case in the queue: name, number of the array or of the job, index, state, the job's own number."""
    listing = bed.run("squeue", "--noheader", "--array", "--format=%j|%F|%K|%T|%A")
    rows = [line.split("|") for line in listing.stdout.splitlines()]
    return [row for row in rows if row[0] == case.name or row[0].startswith(f"{case.name}-")]


def wait_for_updates(cases: Sequence[FaultCase], count: int, seconds: float) -> None:
    """Waits until each case has started `count` updates, but at most `seconds`."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline and any(len(case.updates()) < count for case in cases):
        time.sleep(0.2)


def settle(bed: Testbed, cases: Sequence[FaultCase], seconds: float) -> dict[str, float]:
    """Waits until no case has a job in the queue, and cancels the jobs that are there after `seconds`. Gives for each
    case the time of its last job."""
    deadline = time.monotonic() + seconds
    last_seen = {case.name: time.monotonic() for case in cases}
    while time.monotonic() < deadline:
        for case in cases:
            if queue(bed, case):
                last_seen[case.name] = time.monotonic()
        if all(time.monotonic() - moment > QUIET_SECONDS for moment in last_seen.values()):
            break
        time.sleep(1.0)
    for case in cases:
        for row in queue(bed, case):
            (case.path / "cancelled").touch()
            bed.run("scancel", row[1])
    return last_seen


def main_jobs(bed: Testbed, case: FaultCase) -> list[str]:
    """All jobs of a case but the controller job."""
    submissions = [read_document(path) for path in case.path.glob("out/slurm/submissions/*.json")]
    controllers = [submission["name"] for submission in submissions if submission["role"] == "controller"]
    return [row[1] for row in queue(bed, case) if row[0] not in controllers]


def send_signal(bed: Testbed, case: FaultCase, name: str) -> None:
    """Sends a signal as SLURM sends the signal that a job chose: to its steps."""
    bed.run("scancel", f"--signal={name}", case.updates()[-1]["job"].split(".")[0])


def preempt(bed: Testbed) -> None:
    """Preempts all jobs by a job of a higher partition that takes the whole cluster for some seconds."""
    options = ("--partition=high", "--nodes=2", "--gpus-per-node=8", "--time=2", "--output=/dev/null")
    bed.run("sbatch", *options, "--wrap=sleep 3")


def drain(bed: Testbed, nodes: str, *, on: bool) -> None:
    if on:
        bed.run("scontrol", "update", f"NodeName={nodes}", "State=DRAIN", "Reason=benchmark")
    else:
        bed.run("scontrol", "update", f"NodeName={nodes}", "State=RESUME")


def crash(bed: Testbed, node: str) -> None:
    """Kills a node's daemon and all jobs, which must all run on this node, and sets the node to DOWN."""
    for pid, name in bed.processes().items():
        command = Path(f"/proc/{pid}/cmdline")
        is_other = name in ("munged", "slurmctld") or (name == "slurmd" and node.encode() not in command.read_bytes())
        if not is_other:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
    bed.run("scontrol", "update", f"NodeName={node}", "State=DOWN", "Reason=benchmark")


def copies(case: FaultCase) -> int:
    """The most jobs that trained at the same time."""
    spans: dict[str, tuple[float, float]] = {}
    for row in read_jsonl(case.path / "updates.jsonl"):
        first, _ = spans.get(row["job"], (row["at"], 0.0))
        spans[row["job"]] = (first, row["at"])
    return max((sum(a <= begin <= b for a, b in spans.values()) for begin, _ in spans.values()), default=0)


def repeated_updates(rows: Sequence[dict[str, Any]]) -> int:
    """Number of updates that were started again."""
    return len(rows) - len({row["step"] for row in rows})
