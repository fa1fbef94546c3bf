"""What a finished sweep has to say: as values and as JSON. Computes nothing, prints nothing."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from analysis.forecast.record import Forecast
from scaling.core.records import RunRecord


@dataclass(frozen=True)
class Column:
    """One column of the comparison: the best run of its budget, and its distance to real videos."""

    compute: str
    run: RunRecord
    fvd: float | None

    def to_document(self) -> dict[str, Any]:
        return {
            "compute": self.compute,
            "train_flops": self.run.train_flops,
            "n_params": self.run.n_params,
            "num_tokens": self.run.num_tokens,
            "val_loss": self.run.value("val_loss"),
            "fvd": self.fvd,
            "run_id": self.run.run_id,
        }


@dataclass(frozen=True)
class Outcome:
    """What a finished sweep has to say."""

    columns: list[Column]
    prediction: Forecast
    measured: float
    report: Path

    def to_document(self) -> dict[str, Any]:
        return {
            "columns": [column.to_document() for column in self.columns],
            "prediction": {
                "at": self.columns[-1].compute,
                "val_loss": self.prediction.val_loss,
                "low": self.prediction.low,
                "high": self.prediction.high,
                "measured": self.measured,
            },
            "report": str(self.report),
        }
