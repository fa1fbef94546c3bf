"""What a finished sweep came to, as values and as JSON. Computes nothing."""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from analysis.forecast.record import Forecast
from scaling.core.records import RunRecord


@dataclass(frozen=True)
class ResultColumn:
    """One column of the comparison: the best run of its budget, and its distance to real videos."""

    run: RunRecord
    fvd: float | None

    def to_document(self) -> dict[str, Any]:
        return {
            "compute": self.run.compute,
            "train_flops": self.run.train_flops,
            "n_params": self.run.n_params,
            "num_tokens": self.run.num_tokens,
            "val_loss": self.run.value("val_loss"),
            "fvd": self.fvd,
            "run_id": self.run.run_id,
        }


@dataclass(frozen=True)
class LadderResult:
    """The columns of a ladder and its forecast beside what was measured."""

    columns: list[ResultColumn]
    """By compute; the last is the target."""
    prediction: Forecast
    measured: float
    """Validation loss of the target."""
    report: Path

    def to_document(self) -> dict[str, Any]:
        return {
            "columns": [column.to_document() for column in self.columns],
            "prediction": {
                "at": self.columns[-1].run.compute,
                "val_loss": self.prediction.val_loss,
                "low": self.prediction.low,
                "high": self.prediction.high,
                "measured": self.measured,
            },
            "report": str(self.report),
        }


@dataclass(frozen=True)
class StudyRow:
    """One combination of a study's axes at one size and budget: the mean of its seeds."""

    axes: dict[str, str]
    """Without the seed."""
    size: str
    multiple: float | None
    n_params: int | None
    train_flops: float | None
    vae_id: str | None
    losses: tuple[float | None, ...]
    """Validation loss of each seed; None where the run diverged."""
    run_ids: tuple[str, ...]
    val_loss: float | None
    """Mean of the losses; None where a run diverged."""
    against_first: float | None
    """Relative difference to the first row of the same size, budget and VAE; None where there is nothing to compare."""


@dataclass(frozen=True)
class StudyResult:
    """The rows of a study in the order of its runs."""

    rows: list[StudyRow]
    report: Path

    def to_document(self) -> dict[str, Any]:
        return {"rows": [asdict(row) for row in self.rows], "report": str(self.report)}


SweepResult = LadderResult | StudyResult
