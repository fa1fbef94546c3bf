"""What a finished sweep has to say: as values, as JSON and in a few lines. Computes nothing."""

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


def summary(outcome: Outcome) -> str:
    """The outcome in a few lines for people."""
    lines = [f"{'':6}{'N':>12}{'D':>12}{'C (FLOPs)':>12}{'val loss':>10}{'FVD':>8}"]
    for column in outcome.columns:
        run, loss = column.run, column.run.value("val_loss")
        fvd = f"{column.fvd:8.0f}" if column.fvd is not None else f"{'-':>8}"
        lines.append(
            f"{column.compute:6}{run.n_params:12,}{run.num_tokens:12,}{run.train_flops:12.3g}{loss:10.4f}{fvd}"
        )
    said = outcome.prediction
    inside = "inside" if said.low <= outcome.measured <= said.high else "OUTSIDE"
    lines.append(
        f"foretold before the {outcome.columns[-1].compute} run: {said.val_loss:.4f}, {said.level:.0%} interval "
        f"[{said.low:.4f}, {said.high:.4f}]; measured {outcome.measured:.4f}, {inside}"
    )
    return "\n".join([*lines, f"report: {outcome.report}"])
