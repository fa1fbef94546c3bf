"""This project: its launcher, its worker and its steering, with nothing replaced but the loss."""

import os
import shutil
from pathlib import Path
from typing import Any, NoReturn

from benchmarks.survival.task import DIES_IN_SAVE, Case, die_in, disturbed, stage_id
from scaling.core.attempts import attempts
from scaling.core.stage import StageFolder
from scaling.distributed.ranks import exit_now
from slurm import submit as launching
from slurm import worker
from slurm.cluster import SlurmCluster
from slurm.scheduler import Scheduler, SchedulerDownError
from slurm.submit import Job, Launcher


def folder(case: Case) -> StageFolder:
    return StageFolder(case.path / "out" / "runs" / stage_id(case))


def start(case: Case) -> None:
    """What `scaling submit` does for a sweep, for one stage."""
    shutil.copytree(case.prepared, case.path / "out" / "runs")
    _submit(case)


def ending(case: Case) -> tuple[Path, str]:
    """Where the weights are in the end, and what the stage says of itself."""
    own = folder(case)
    if not own.complete:
        past = attempts(own)
        return case.path / "none", past[-1].words if past else ""
    diverged = own.path / "diverged.json"
    return own.path / "model.safetensors", "recorded as diverged" if diverged.exists() else ""


def work(path: str) -> NoReturn:
    """`slurm.worker.work`, with the faults."""
    from scaling.training.dit import DiTModule

    case = Case.read(Path(path).parents[2])
    original = DiTModule.loss
    losses: dict[int, Any] = {}

    def loss(module: DiTModule, batch: Any, step: int) -> Any:
        if id(module) not in losses:
            losses[id(module)] = disturbed(case, lambda batch, step: original(module, batch, step))
        return losses[id(module)](batch, step)

    DiTModule.loss = loss
    write, saves = Path.write_bytes, set[str]()

    def write_bytes(path: Path, content: Any) -> int:
        if path.parent.name.startswith(".step-"):
            saves.add(path.parent.name)
        if len(saves) == DIES_IN_SAVE:
            Path.write_bytes = write
            die_in(case, content, path)
        return write(path, content)

    Path.write_bytes = write_bytes
    worker.work(path)


def steer(path: str) -> NoReturn:
    """What the steering job does, for one stage."""
    try:
        _submit(Case.read(Path(path).parent), os.environ["SLURM_JOB_NAME"])
    except SchedulerDownError as down:
        print(down, flush=True)
        exit_now(worker.AGAIN)
    exit_now(0)


def _submit(case: Case, myself: str = "") -> None:
    launching.work = work
    cluster = SlurmCluster(
        name="testbed",
        partition="main",
        gpus_per_node=8,
        gpu_type="h100",
        max_gpus=16,
        hours_limit=case.minutes / 60,
        warn_seconds=case.warn,
    )
    out = case.path / "out"
    launcher = Launcher(out, cluster, Scheduler(out / "slurm"), say=lambda text: print(text, flush=True))
    job = Job(folder(case).stage(), 1, 0.01, 0.01)
    launcher.submit(case.name, [job], steer, myself=myself)
