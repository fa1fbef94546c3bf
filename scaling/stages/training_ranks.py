"""Trains the model of a stage on as many ranks as its engine asks for: `train` of the stage's module, on each of them.

One rank trains in this process. Several ranks are processes of their own (`python -m scaling.stages.training_ranks
FOLDER`), and this process waits for them. In a SLURM job the other ranks are running already and call `train_as_rank`.
"""

import math
import sys
from pathlib import Path

from scaling.core.attempts import stage_to_try
from scaling.core.errors import UserError
from scaling.core.events import Events
from scaling.core.precision import request_precision
from scaling.core.stage import Stage
from scaling.core.stage_folder import StageFolder
from scaling.distributed.ranks import exit_now, exit_with_parent, in_slurm, rank, run_together
from scaling.stages.failures import failure_event
from scaling.stages.modules import training_module


def train(folder: StageFolder, stage: Stage, events: Events) -> None:
    """Trains; the result is in the folder. Several ranks of this machine are processes of their own, so that this one
    can report why any of them failed, and end the others.

    Raises what `train` of the stage's module raises, or StageError where a rank ended in another way.
    """
    if stage.engine.processes == 1 or in_slurm():
        training_module(stage).train(folder, stage, events)
    else:
        command = [sys.executable, "-m", "scaling.stages.training_ranks", str(folder.path)]
        run_together(command, stage.engine.processes, folder.path / "ranks")


def train_as_rank(folder: StageFolder) -> None:
    """Trains as the rank that the environment names, in an attempt that another process has claimed. Raises what the
    training raises, and writes the reason to the event log of the rank."""
    stage = stage_to_try(folder)
    request_precision(stage.engine.precision)
    try:
        training_module(stage).train(folder, stage, folder.events_of_attempt())
    except Exception as error:
        folder.events_of_attempt(rank()).log(**failure_event(error, math.inf))
        raise


if __name__ == "__main__":
    exit_with_parent()
    try:
        train_as_rank(StageFolder(Path(sys.argv[1])))
    except UserError as mistake:
        print(mistake, file=sys.stderr)
        sys.exit(2)
    exit_now()
