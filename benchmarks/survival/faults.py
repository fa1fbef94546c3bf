"""The faults, and the result of each tool under each fault, on two testbeds side by side."""

import hashlib
import shutil
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from subprocess import Popen
from typing import Any

from safetensors.torch import load_file

from benchmarks.survival import cluster, ours
from benchmarks.survival.task import FAULT_UPDATE, FaultCase
from slurm.testbed import Testbed

FAULTS = {
    "undisturbed": "none (and no accounting)",
    "sigterm": "preempted, SIGTERM only",
    "usersignal": "preempted, with the job's own signal",
    "timelimit": "time limit",
    "node": "node fails",
    "killsave": "SIGKILL in the middle of a save",
    "stale": "half a save left over, then the job's own signal",
    "cancelled": "cancelled before it started",
    "sbatch": "sbatch times out, the job was taken",
    "memory": "out of memory in an update",
    "nan": "loss becomes NaN",
}
TOOLS = ("ours", "submitit", "lightning")
START_SECONDS, END_SECONDS = 150.0, 240.0
BROKEN_SBATCH = """#!/bin/sh
# Accepts the job without answering, the first time.
for last in "$@"; do :; done
mark="{folder}/$(cd "$(dirname "$last")" && pwd | tr / _)"
if mkdir "$mark" 2>/dev/null; then
  {sbatch} "$@" >/dev/null
  echo "sbatch: error: Batch job submission failed: Socket timed out on send/recv operation" >&2
  exit 1
fi
exec {sbatch} "$@"
"""


@dataclass(frozen=True)
class FaultResult:
    """The result of one case."""

    tool: str
    fault: str
    finished: bool
    """Whether the training finished without anyone's help."""
    digest: str
    """Hash of the final weights."""
    repeated_updates: int
    """Number of updates that were started again."""
    copies: int
    """Largest number of jobs that trained at the same time."""
    starts: int
    """Number of jobs, and restarts of jobs, that trained."""
    not_a_number: bool
    """Whether the final weights contain NaN."""
    note: str


def run_all(
    folder: Path, prepared: Path, quiet: Testbed, signalling: Testbed, say: Callable[[str], None]
) -> list[FaultResult]:
    """Gives all tools all faults. `quiet` sends only SIGTERM to preempted jobs; `signalling` also sends the signal that
    a job chose."""

    def cases(fault: str, **settings: Any) -> list[FaultCase]:
        say(f"{fault} ...")
        return [FaultCase(str(folder / f"{tool}-{fault}"), tool, fault, str(prepared), **settings) for tool in TOOLS]

    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(_on_quiet, quiet, cases, folder)
        second = pool.submit(_on_signalling, signalling, cases)
        finished = [*first.result(), *second.result()]
    return [result_of(case) for case in finished]


def _on_quiet(bed: Testbed, cases: Callable[..., list[FaultCase]], folder: Path) -> list[FaultCase]:
    finished: list[FaultCase] = []
    nodes = "n[0-1]"
    cluster.drain(bed, nodes, on=True)
    cancelled = cases("cancelled")
    _wait(cluster.start(bed, cancelled))
    for case in cancelled:
        for job in cluster.main_jobs(bed, case):
            bed.run("scancel", job)
    cluster.drain(bed, nodes, on=False)
    wrapper = folder / "bin"
    wrapper.mkdir()
    marks = folder / "marks"
    marks.mkdir()
    (wrapper / "sbatch").write_text(BROKEN_SBATCH.format(sbatch=shutil.which("sbatch"), folder=marks))
    (wrapper / "sbatch").chmod(0o755)
    timed_out, plain = cases("sbatch"), cases("undisturbed")
    started = cluster.start(bed, timed_out, str(wrapper)) + cluster.start(bed, plain)
    _wait(started)
    cluster.settle(bed, [*cancelled, *timed_out, *plain], END_SECONDS)
    finished += [*cancelled, *timed_out, *plain]

    within = [*cases("killsave", kill_in_save=True), *cases("memory", out_of_memory=True), *cases("nan", nan=True)]
    stale = cases("stale", sleep=0.15)
    _wait(cluster.start(bed, [*within, *stale]))
    cluster.wait_for_updates(stale, FAULT_UPDATE, START_SECONDS)
    for case in stale:
        _leave_half_a_save(case)
        cluster.send_signal(bed, case, "USR1" if case.tool == "lightning" else "USR2")
    cluster.settle(bed, [*within, *stale], END_SECONDS)
    finished += [*within, *stale]

    preempted = cases("sigterm", sleep=0.2)
    _wait(cluster.start(bed, preempted))
    cluster.wait_for_updates(preempted, FAULT_UPDATE, START_SECONDS)
    cluster.preempt(bed)
    cluster.settle(bed, preempted, END_SECONDS)
    finished += preempted

    cluster.drain(bed, "n1", on=True)
    crashed = cases("node", sleep=0.2)
    _wait(cluster.start(bed, crashed))
    cluster.wait_for_updates(crashed, FAULT_UPDATE, START_SECONDS)
    cluster.drain(bed, "n1", on=False)
    cluster.crash(bed, "n0")
    cluster.settle(bed, crashed, END_SECONDS)
    return finished + crashed


def _on_signalling(bed: Testbed, cases: Callable[..., list[FaultCase]]) -> list[FaultCase]:
    preempted = cases("usersignal", sleep=0.2)
    _wait(cluster.start(bed, preempted))
    cluster.wait_for_updates(preempted, FAULT_UPDATE, START_SECONDS)
    cluster.preempt(bed)
    cluster.settle(bed, preempted, END_SECONDS)
    limited = cases("timelimit", sleep=0.9, minutes=2)
    _wait(cluster.start(bed, limited))
    cluster.settle(bed, limited, 2 * END_SECONDS)
    return preempted + limited


def _wait(processes: Sequence[Popen[bytes]]) -> None:
    for process in processes:
        process.wait()


def _leave_half_a_save(case: FaultCase) -> None:
    """Leaves the files of a kill in the middle of a save: of the checkpoint and, where a tool pickles its job, of the
    pickle."""
    if case.tool == "submitit":
        job = case.updates()[-1]["job"].split(".")[0]
        (case.path / "jobs" / f"{job}_submitted.pkl.save_tmp").write_bytes(b"\x80\x04half")
        (case.path / "newest.tmp").write_bytes(b"half")
    elif case.tool == "ours":
        half = ours.folder(case).path / "checkpoints" / ".step-00000060.1.0a0a0a0a.tmp"
        half.mkdir()
        (half / "weights.safetensors").write_bytes(b"half")
    else:
        (case.path / "root" / "saved" / "half.ckpt.tmp").write_bytes(b"half")


def result_of(case: FaultCase) -> FaultResult:
    assert not case.kill_in_save or (case.path / "struck").exists(), f"{case.name} was not killed"
    final, note = (case.final, "") if case.tool != "ours" else ours.ending(case)
    rows = case.updates()
    return FaultResult(
        tool=case.tool,
        fault=case.fault,
        finished=final.exists() or note.startswith("recorded"),
        digest=hashlib.sha256(final.read_bytes()).hexdigest() if final.exists() else "",
        repeated_updates=cluster.repeated_updates(rows),
        copies=cluster.copies(case),
        starts=len({row["job"] for row in rows}),
        not_a_number=final.exists() and _has_nan(final),
        note=note or _last_error(case),
    )


def _has_nan(weights: Path) -> bool:
    return any(bool(tensor.isnan().any()) for tensor in load_file(weights).values())


def _last_error(case: FaultCase) -> str:
    """The last line of a log that names an error."""
    lines = [
        line.strip()
        for path in [*case.path.glob("*.log"), *case.path.glob("jobs/*.err")]
        for line in path.read_text(errors="replace").splitlines()
        if "Error" in line or "error:" in line
    ]
    return lines[-1][:200] if lines else ""
