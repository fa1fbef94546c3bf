"""Checks that a testbed works: a job on both nodes with one task per GPU, and accounting where it is on."""

import time

from scaling.core.errors import UserError
from scaling.core.store import read_document
from slurm.testbed.settings import GPUS_PER_NODE, NODES
from slurm.testbed.testbed import Testbed

TASKS = len(NODES) * GPUS_PER_NODE
JOB_SECONDS = 40
RECORD_SECONDS = 20


def check(testbed: Testbed) -> dict[str, object]:
    """Runs a job of 16 tasks on 2 nodes and, with accounting, looks it up. Raises UserError where something is
    wrong."""
    marker = testbed.folder / "testbed.json"
    if not marker.exists():
        raise UserError(f"no testbed in {testbed.folder}; start one: python -m slurm.testbed start")
    probe = "echo $SLURM_PROCID $SLURM_NODEID $SLURM_LOCALID $CUDA_VISIBLE_DEVICES"
    job = testbed.run(
        *("srun", "--job-name=check", f"--nodes={len(NODES)}", f"--ntasks-per-node={GPUS_PER_NODE}"),
        *(f"--gpus-per-node={GPUS_PER_NODE}", "--immediate=20", "--chdir=/", "--export=PATH", "sh", "-c", probe),
        timeout=JOB_SECONDS,
    )
    gpus = ",".join(str(number) for number in range(GPUS_PER_NODE))
    expected = [f"{rank} {rank // GPUS_PER_NODE} {rank % GPUS_PER_NODE} {gpus}" for rank in range(TASKS)]
    if sorted(job.stdout.splitlines()) != sorted(expected):
        raise UserError(f"a job on both nodes went wrong; it printed:\n{job.stdout}{job.stderr}")
    result: dict[str, object] = {"nodes": len(NODES), "tasks": TASKS, "gpus_per_node": GPUS_PER_NODE}
    if read_document(marker)["settings"]["accounting"]:
        _look_up(testbed)
        result["sacct"] = "works"
    return result


def _look_up(testbed: Testbed) -> None:
    """Waits until the database has the job: SLURM's controller sends it there some seconds later."""
    deadline = time.monotonic() + RECORD_SECONDS
    while True:
        listing = testbed.run("sacct", "--noheader", "--parsable2", "--allocations", "--name=check", "--format=State")
        if "COMPLETED" in listing.stdout:
            return
        if listing.returncode or time.monotonic() > deadline:
            raise UserError(f"sacct does not know the job; it printed:\n{listing.stdout}{listing.stderr}")
        time.sleep(0.1)
