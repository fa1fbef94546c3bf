"""training.json: what the training of a model reports when it ends. The first rank writes it beside the weights; the
stage's record is made from it, so that no model has to be built again."""

from pathlib import Path
from typing import Self

from pydantic import Field

from scaling.core.specs import Spec, parse_spec
from scaling.core.stage_folder import StageFolder
from scaling.core.store import read_document, write_document


class TrainingResult(Spec):
    """The result of the training of a VAE, and what the results of all trainings share."""

    n_params_total: int
    """Number of all parameters of the model."""
    unique_clips: int
    """Number of different clips in the training data."""
    train_flops: float
    """Training FLOPs of all planned updates."""

    @staticmethod
    def path(folder: StageFolder) -> Path:
        """The file in the folder of a stage."""
        return folder.path / "training.json"

    def save(self, folder: StageFolder) -> None:
        """Writes the file. Raises UserError if the disk is full."""
        write_document(self.path(folder), self.model_dump(mode="json"))

    @classmethod
    def load(cls, folder: StageFolder) -> Self:
        """Reads the file. Raises UserError where it is missing or broken."""
        return parse_spec(cls, read_document(cls.path(folder)), str(cls.path(folder)))


class DiTTrainingResult(TrainingResult):
    """The result of the training of a `trunk` or `dit` stage."""

    n_params: int
    """Number of parameters without embeddings."""
    num_tokens: int
    """Training tokens of all planned updates, repeats included."""
    unique_tokens: int
    """Number of tokens of the different clips."""
    steps: int = Field(ge=1)
    """Number of planned updates, which the FLOP budget pays for."""
    warmup_steps: float
    """Number of updates in which the learning rates rise."""
    decay_steps: float
    """Number of updates at the end in which the learning rates fall."""
    updates_done: int
    """Number of updates behind the weights. It is smaller than `steps` in a trunk, and in a run that diverged."""
    diverged: bool = False
    """Whether the loss of the update after these was not finite."""
    update_seconds: float | None = None
    """Median time of an update; None where it was not measured."""

    def spent_flops(self, updates_before: int) -> float:
        """Training FLOPs of the updates of this stage itself, which continued from this number of updates."""
        return self.train_flops * (self.updates_done - updates_before) / self.steps
