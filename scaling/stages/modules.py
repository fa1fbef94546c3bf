"""The module of each kind of stage, and what every such module provides.

The module of a kind is `scaling.stages.<kind>`. It is imported only when a stage of that kind is worked on, because
most of them import torch.
"""

import os
from importlib import import_module
from typing import Protocol, runtime_checkable

from scaling.core.events import Events
from scaling.core.records import RunRecord
from scaling.core.stage import Stage
from scaling.core.stage_folder import StageFolder

TRAINING_KINDS = ("vae", "trunk", "dit")
"""The kinds whose modules train a model, on one or more ranks. Only these need less memory for smaller
micro-batches."""


@runtime_checkable
class StageModule(Protocol):
    """The module of a kind of stage."""

    def work(self, folder: StageFolder, stage: Stage, events: Events) -> RunRecord:
        """Makes everything that the stage leaves in its folder and returns its record, without what
        `scaling.stages.run` adds. Its parents are complete. The first rank alone calls it."""
        ...


@runtime_checkable
class TrainingStageModule(StageModule, Protocol):
    """The module of a kind of stage that trains a model. Its `work` calls `scaling.stages.training_ranks.train`."""

    def train(self, folder: StageFolder, stage: Stage, events: Events) -> None:
        """What every rank does. The first rank leaves the trained model and a training.json in the folder."""
        ...


def stage_module(stage: Stage) -> StageModule:
    """The module of the stage's kind. Sets the number of threads, which torch reads when it is imported."""
    os.environ["OMP_NUM_THREADS"] = str(stage.engine.threads)
    module = import_module(f"scaling.stages.{stage.kind}")
    assert isinstance(module, StageModule), f"{module.__name__} has no function `work`"
    return module


def training_module(stage: Stage) -> TrainingStageModule:
    """The module of the stage's kind, which trains a model."""
    module = stage_module(stage)
    assert isinstance(module, TrainingStageModule), f"the module of the kind {stage.kind} has no function `train`"
    return module
