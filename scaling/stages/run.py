"""Runs one stage in its folder, whatever its kind. A worker, on this machine or on a cluster, calls `run_stage`."""

import math
import time
from contextlib import suppress
from pathlib import Path

from scaling.core.attempts import stage_to_try
from scaling.core.errors import NoSpaceError, UserError
from scaling.core.events import Events
from scaling.core.machine import processor
from scaling.core.precision import request_precision
from scaling.core.records import RunRecord, write_record
from scaling.core.stage import Stage
from scaling.core.stage_folder import StageFolder
from scaling.core.versions import git_revision, versions
from scaling.stages.failures import failure_event
from scaling.stages.modules import TRAINING_KINDS, stage_module

PACKAGES = ("torch", "lightning", "numpy", "av", "scipy", "safetensors", "tokenizers", "transformers")
"""Packages whose versions a record names, where they are installed."""


def run_stage(path: str, job: str = "", gpus: int = 0, deadline: float = math.inf) -> None:
    """Completes the stage in this folder, or returns at once if it is complete. Waits for another process that works on
    it. `job` is the scheduler's name of this job and `gpus` its number of GPUs. A signal after `deadline`, in seconds
    since the epoch, counts as a time limit that was reached.

    Raises UserError if a parent is not complete or the spec is broken, StoppedError where a signal stops the work, and
    whatever the work itself raises. The reason is also in the event log of the attempt.
    """
    folder = StageFolder(Path(path))
    with folder.exclusive():
        if folder.complete:
            return
        events = folder.claim_attempt(job, gpus)
        try:
            write_record(folder.record_path, _work(folder, stage_to_try(folder), events))
        except Exception as error:
            with suppress(OSError, NoSpaceError):  # on a full disk, the reason cannot be written
                events.log(**failure_event(error, deadline))
            raise
        folder.finish()
        events.log(finished=True)


def _work(folder: StageFolder, stage: Stage, events: Events) -> RunRecord:
    """Does the work of a stage whose parents are complete, and completes its record."""
    for role, parent in stage.parents.items():
        if not folder.parent(role).complete:
            raise UserError(f"{folder.path}: its {role}, {parent}, is not complete yet")
    if stage.engine.micro_batch_halvings and stage.kind not in TRAINING_KINDS:
        raise UserError(
            f"{folder.path}: memory ran out, and a {stage.kind} stage has no batches that could be made smaller; "
            "run it on a machine with more memory"
        )
    request_precision(stage.engine.precision)
    start = time.monotonic()
    record = stage_module(stage).work(folder, stage, events)
    return record.replace(
        **stage.label.model_dump(),
        parents=stage.parents,
        engine=stage.engine,
        processor=processor(),
        wall_seconds=round(time.monotonic() - start, 3),
        versions=versions(*PACKAGES),
        git_revision=git_revision(),
    )
