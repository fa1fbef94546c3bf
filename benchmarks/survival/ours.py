"""This project: its launcher, its worker and its controller job; only the loss is replaced."""

import os
import shutil
from pathlib import Path
from typing import Any, NoReturn

from benchmarks.survival.task import DIES_IN_SAVE, FaultCase, die_in, disturbed, stage_id
from scaling.core.attempts import attempts
from scaling.core.records import read_record
from scaling.core.stage_folder import StageFolder
from scaling.distributed.ranks import exit_now
from slurm import submit as launching
from slurm import worker
from slurm.arrays import StageJob
from slurm.cluster import SlurmCluster
from slurm.scheduler import Scheduler, SchedulerDownError
from slurm.submit import Launcher


def folder(case: FaultCase) -> StageFolder:
    return StageFolder(case.path / "out" / "runs" / stage_id(case))


def start(case: FaultCase) -> None:
    """Does for one stage what `scaling submit` does for a sweep."""
    shutil.copytree(case.prepared, case.path / "out" / "runs")
    _submit(case)


def ending(case: FaultCase) -> tuple[Path, str]:
    """The path of the final weights, and the message or the result of the stage."""
    stage_folder = folder(case)
    if not stage_folder.complete:
        past_attempts = attempts(stage_folder)
        return case.path / "none", past_attempts[-1].message if past_attempts else ""
    diverged = read_record(stage_folder.record_path).diverged_at is not None
    return stage_folder.path / "model.safetensors", "recorded as diverged" if diverged else ""


def work(path: str) -> NoReturn:
    """Does what `slurm.worker.work` does, with the faults of the case."""
    from scaling.training.dit import DiTModule

    case = FaultCase.read(Path(path).parents[2])
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


def controller(path: str) -> NoReturn:
    """Does for one stage what the controller job does for a sweep."""
    try:
        _submit(FaultCase.read(Path(path).parent), os.environ["SLURM_JOB_NAME"])
    except SchedulerDownError as down:
        print(down, flush=True)
        exit_now(worker.REQUEUE)
    exit_now(0)


def _submit(case: FaultCase, own_name: str = "") -> None:
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
    job = StageJob(folder(case).stage(), 1, 0.01, 0.01)
    launcher.submit(case.name, [job], controller, own_name=own_name)
