"""Does one stage in its folder: the function that a worker, here or on a cluster, is given one path for."""

import os
import sys
import time
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any, NoReturn

from scaling.errors import UserError
from scaling.ranks import leave, leave_with_starter, run_together
from scaling.records import RunRecord, git_revision, versions, write_record
from scaling.stage import Events, Stage, StageFolder

Work = Callable[[StageFolder, Stage, Events], RunRecord]

PACKAGES = ("torch", "lightning", "numpy", "av", "scipy", "safetensors", "tokenizers", "transformers")


def run_stage(path: str) -> None:
    """Brings the stage in this folder to COMPLETE, or returns at once if it is. Waits for another process at it.

    Raises UserError if a parent is not complete or the spec is broken, and whatever the work itself raises; the reason
    is in the attempt's events too.
    """
    folder = StageFolder(Path(path))
    with folder.exclusive():
        if folder.complete:
            return
        events = folder.claim_attempt()
        try:
            write_record(folder.record_path, _work(folder, folder.stage(), events))
        except Exception as error:
            mendable = isinstance(error, UserError)
            events.log(error=str(error) if mendable else f"{type(error).__name__}: {error}", mendable=mendable)
            raise
        folder.finish()
        events.log(finished=True)


def _work(folder: StageFolder, stage: Stage, events: Events) -> RunRecord:
    """Does the work of a stage whose parents are complete, and signs its record."""
    for role, parent in stage.parents.items():
        if not folder.parent(role).complete:
            raise UserError(f"{folder.path}: its {role}, {parent}, is not complete yet")
    work: Work = _module(stage).work
    started = time.monotonic()
    record = work(folder, stage, events)
    return record.model_copy(
        update={
            "run_id": stage.id,
            "sweep": stage.sweep,
            "compute": stage.compute,
            "parents": stage.parents,
            "engine": stage.engine,
            "wall_seconds": round(time.monotonic() - started, 3),
            "versions": versions(*PACKAGES),
            "git_revision": git_revision(),
        }
    )


def train_together(folder: StageFolder, stage: Stage, events: Events) -> None:
    """Trains the model of a stage with as many ranks as its engine wants; what they leave is in the folder. One trains
    in this process; several are processes of their own, which this one only waits for: then it can say of any why it
    failed, and none is left behind.

    Raises what `train` of the stage's module raises, or StageError where a rank died otherwise.
    """
    if stage.engine.processes == 1:
        _module(stage).train(folder, stage, events)
    else:
        command = [sys.executable, "-m", "scaling.stages.run", str(folder.path)]
        run_together(command, stage.engine.processes, folder.path / "ranks")


def run_rank(path: str) -> NoReturn:
    """Takes part in the training of a stage that another process has claimed, as the rank that the environment says."""
    leave_with_starter()
    folder = StageFolder(Path(path))
    stage = folder.stage()
    _module(stage).train(folder, stage, folder.events_of_attempt())
    leave()


def _module(stage: Stage) -> Any:
    """The module of a stage's kind. torch reads its number of threads when it is imported, here."""
    os.environ["OMP_NUM_THREADS"] = str(stage.engine.threads)
    return import_module(f"scaling.stages.{stage.kind}")


if __name__ == "__main__":
    try:
        run_rank(sys.argv[1])
    except UserError as mistake:
        print(mistake, file=sys.stderr)
        sys.exit(2)
