"""What is done to the jobs of a testbed, and what is seen of them."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from benchmarks.survival.task import Case
from scaling.core.store import read_document, read_jsonl
from slurm.testbed import Testbed

QUIET_SECONDS = 6.0
"""Without a job in the queue, after which nobody is expected to come back."""


def start(bed: Testbed, cases: Sequence[Case], path: str = "") -> list["subprocess.Popen[bytes]"]:
    """Submits the cases side by side. `path` comes first on PATH."""
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


def queue(bed: Testbed, case: Case) -> list[list[str]]:
    """Job name, number of its array or itself, index, state and own number of what a case has in the queue."""
    done = bed.run("squeue", "--noheader", "--array", "--format=%j|%F|%K|%T|%A")
    rows = [line.split("|") for line in done.stdout.splitlines()]
    return [row for row in rows if row[0] == case.name or row[0].startswith(f"{case.name}-")]


def wait_for_updates(cases: Sequence[Case], count: int, seconds: float) -> None:
    """Until each case has begun so many updates; those that never do are given up."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline and any(len(case.updates()) < count for case in cases):
        time.sleep(0.2)


def settle(bed: Testbed, cases: Sequence[Case], seconds: float) -> dict[str, float]:
    """Waits until no case has a job in the queue. What is there after so long is cancelled. Gives for each case the
    time of its last job."""
    deadline = time.monotonic() + seconds
    seen = {case.name: time.monotonic() for case in cases}
    while time.monotonic() < deadline:
        for case in cases:
            if queue(bed, case):
                seen[case.name] = time.monotonic()
        if all(time.monotonic() - at > QUIET_SECONDS for at in seen.values()):
            break
        time.sleep(1.0)
    for case in cases:
        for row in queue(bed, case):
            (case.path / "cancelled").touch()
            bed.run("scancel", row[1])
    return seen


def main_jobs(bed: Testbed, case: Case) -> list[str]:
    """All jobs of a case but the controller job."""
    submissions = [read_document(path) for path in case.path.glob("out/slurm/submissions/*.json")]
    controllers = [submission["name"] for submission in submissions if submission["role"] == "controller"]
    return [row[1] for row in queue(bed, case) if row[0] not in controllers]


def send_signal(bed: Testbed, case: Case, name: str) -> None:
    """As SLURM sends a job's own signal: to its steps."""
    bed.run("scancel", f"--signal={name}", case.updates()[-1]["job"].split(".")[0])


def preempt(bed: Testbed) -> None:
    """By a job of a higher partition that takes the whole cluster for some seconds."""
    options = ("--partition=high", "--nodes=2", "--gpus-per-node=8", "--time=2", "--output=/dev/null")
    bed.run("sbatch", *options, "--wrap=sleep 3")


def drain(bed: Testbed, nodes: str, *, on: bool) -> None:
    if on:
        bed.run("scontrol", "update", f"NodeName={nodes}", "State=DRAIN", "Reason=benchmark")
    else:
        bed.run("scontrol", "update", f"NodeName={nodes}", "State=RESUME")


def crash(bed: Testbed, node: str) -> None:
    """Kills a node's daemon and everything that it runs, which must be all that the cluster runs, and sets it down."""
    for pid, name in bed.processes().items():
        command = Path(f"/proc/{pid}/cmdline")
        is_other = name in ("munged", "slurmctld") or (name == "slurmd" and node.encode() not in command.read_bytes())
        if not is_other:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
    bed.run("scontrol", "update", f"NodeName={node}", "State=DOWN", "Reason=benchmark")


def copies(case: Case) -> int:
    """The most jobs that trained at the same time."""
    spans: dict[str, tuple[float, float]] = {}
    for row in read_jsonl(case.path / "updates.jsonl"):
        first, _ = spans.get(row["job"], (row["at"], 0.0))
        spans[row["job"]] = (first, row["at"])
    return max((sum(a <= begin <= b for a, b in spans.values()) for begin, _ in spans.values()), default=0)


def again(rows: Sequence[dict[str, Any]]) -> int:
    """Updates begun more than once."""
    return len(rows) - len({row["step"] for row in rows})
