"""Does one stage in its folder: the function that a worker, here or on a cluster, is given one path for."""

import math
import os
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from importlib import import_module
from pathlib import Path
from typing import Any, NoReturn

from scaling.core import signals
from scaling.core.attempts import stage_to_try
from scaling.core.errors import NoSpaceError, UserError
from scaling.core.records import RunRecord, git_revision, versions, write_record
from scaling.core.stage import Events, Stage, StageFolder
from scaling.distributed.ranks import exit_now, exit_with_parent, in_slurm, rank, run_together

WORDS = 2000
"""Characters of an error that are kept; all of it is in the job's own log."""
MICRO_BATCHED = ("vae", "trunk", "dit")
"""Kinds of stages that need less memory for smaller micro-batches."""

Work = Callable[[StageFolder, Stage, Events], RunRecord]

PACKAGES = ("torch", "lightning", "numpy", "av", "scipy", "safetensors", "tokenizers", "transformers")


def run_stage(path: str, job: str = "", gpus: int = 0, due: float = math.inf) -> None:
    """Brings the stage in this folder to COMPLETE, or returns at once if it is. Waits for another process at it. `job`
    is the scheduler's name for this one, which has so many GPUs; a signal after `due`, in seconds since the epoch, is
    put down to its time limit.

    Raises UserError if a parent is not complete or the spec is broken, StoppedError where a signal says so, and what
    the work itself raises; the reason is in the attempt's events too.
    """
    folder = StageFolder(Path(path))
    with folder.exclusive():
        if folder.complete:
            return
        events = folder.claim_attempt(job, gpus)
        try:
            write_record(folder.record_path, _work(folder, stage_to_try(folder), events))
        except Exception as error:
            with suppress(OSError, NoSpaceError):  # where the disk is full, the reason cannot be written
                events.log(**_last_words(error, due))
            raise
        folder.finish()
        events.log(finished=True)


def _last_words(error: Exception, due: float) -> dict[str, Any]:
    """What an attempt that did not finish says; `scaling.core.attempts` reads it from the end of the log, so it is
    short."""
    if isinstance(error, signals.StoppedError):
        return {"stopped": str(error)[:WORDS], "out_of_time": time.time() > due}
    if isinstance(error, UserError):
        return {"error": str(error)[:WORDS], "mendable": True, "no_space": isinstance(error, NoSpaceError)}
    words = f"{type(error).__name__}: {error}"[:WORDS]
    return {"error": words, "mendable": False, "out_of_memory": _out_of_memory(error)}


def _out_of_memory(error: Exception) -> bool:
    """torch has an exception for a GPU's memory and none for a CPU's."""
    names = {kind.__name__ for kind in type(error).__mro__}
    return bool(names & {"MemoryError", "OutOfMemoryError"}) or "can't allocate memory" in str(error)


def _work(folder: StageFolder, stage: Stage, events: Events) -> RunRecord:
    """Does the work of a stage whose parents are complete, and signs its record."""
    for role, parent in stage.parents.items():
        if not folder.parent(role).complete:
            raise UserError(f"{folder.path}: its {role}, {parent}, is not complete yet")
    if stage.engine.micro_batch_halvings and stage.kind not in MICRO_BATCHED:
        raise UserError(f"{folder.path}: memory runs out, and nothing here can be halved; give it a larger machine")
    work: Work = _module(stage).work
    started = time.monotonic()
    record = work(folder, stage, events)
    return record.replace(
        run_id=stage.id,
        **stage.label.model_dump(),
        parents=stage.parents,
        engine=stage.engine,
        wall_seconds=round(time.monotonic() - started, 3),
        versions=versions(*PACKAGES),
        git_revision=git_revision(),
    )


def train_together(folder: StageFolder, stage: Stage, events: Events) -> None:
    """Trains the model of a stage with as many ranks as its engine wants; what they leave is in the folder. One trains
    in this process; several are processes of their own, which this one only waits for: then it can say of any why it
    failed, and none is left behind.

    Raises what `train` of the stage's module raises, or StageError where a rank died otherwise.
    """
    if stage.engine.processes == 1 or in_slurm():  # whose other ranks are here already
        _module(stage).train(folder, stage, events)
    else:
        command = [sys.executable, "-m", "scaling.stages.run", str(folder.path)]
        run_together(command, stage.engine.processes, folder.path / "ranks")


def run_rank(path: str) -> NoReturn:
    """Takes part in the training of a stage that another process has claimed, as the rank that the environment says."""
    exit_with_parent()
    take_part(StageFolder(Path(path)))
    exit_now()


def take_part(folder: StageFolder) -> None:
    """What a rank does in the training of a stage that another process has claimed. Raises what the training raises,
    with the reason in events of its own."""
    stage = stage_to_try(folder)
    try:
        _module(stage).train(folder, stage, folder.events_of_attempt())
    except Exception as error:
        folder.events_of_attempt(rank()).log(**_last_words(error, math.inf))
        raise


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
