"""Does one stage in its folder: the function that a worker, here or on a cluster, is given one path for."""

import os
import time
from collections.abc import Callable
from importlib import import_module
from pathlib import Path

from scaling.errors import UserError
from scaling.records import RunRecord, git_revision, versions, write_record
from scaling.stage import Events, Stage, StageFolder

Work = Callable[[StageFolder, Stage, Events], RunRecord]

PACKAGES = ("torch", "lightning", "numpy", "av", "scipy", "safetensors", "tokenizers")


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
    os.environ["OMP_NUM_THREADS"] = str(stage.threads)  # torch reads it when the work imports it
    work: Work = import_module(f"scaling.stages.{stage.kind}").work
    started = time.monotonic()
    record = work(folder, stage, events)
    return record.model_copy(
        update={
            "run_id": stage.id,
            "sweep": stage.sweep,
            "compute": stage.compute,
            "parents": stage.parents,
            "wall_seconds": round(time.monotonic() - started, 3),
            "versions": versions(*PACKAGES),
            "git_revision": git_revision(),
        }
    )
