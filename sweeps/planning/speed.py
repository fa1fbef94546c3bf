"""Measured training speeds of finished runs, which a plan uses in place of assumptions. No torch."""

import math
import statistics
from dataclasses import dataclass
from pathlib import Path

from scaling.core.errors import UserError
from scaling.core.records import RunRecord
from scaling.core.specs import parse_spec
from scaling.core.store import read_document

NEAREST = 3
"""Number of runs of the nearest N whose median speed is used: small models use less of a GPU than large ones."""


@dataclass(frozen=True)
class Speeds:
    """Training speeds of finished runs on one kind of device."""

    by_run: tuple[tuple[int, float], ...] = ()
    """N of each run, and its FLOP/s on one GPU or one core."""

    def nearest(self, n_params: int) -> float | None:
        """FLOP/s of one device in a training of so many parameters; None where nothing was measured."""
        if not self.by_run:
            return None
        ranked = sorted(self.by_run, key=lambda run: abs(math.log(run[0] / n_params)))
        return statistics.median(speed for _, speed in ranked[:NEAREST])


def measured(runs: Path | None, device: str) -> Speeds:
    """The speeds of the complete `dit` runs in a folder that trained on this kind of device, `cuda` or `cpu`.

    Raises UserError where a record is damaged.
    """
    if runs is None:
        return Speeds()
    speeds = []
    for mark in sorted(runs.glob("*/COMPLETE")):
        path = mark.parent / "record.json"
        document = read_document(path)
        if not isinstance(document, dict):
            raise UserError(f"{path}: expected a mapping of fields")
        if document.get("stage") != "dit" or document.get("device") != device:
            continue
        record = parse_spec(RunRecord, document, str(path))
        if record.flops_per_second and record.engine and record.n_params:
            devices = record.engine.processes if device == "cuda" else record.engine.cores
            speeds.append((record.n_params, record.flops_per_second / devices))
    return Speeds(tuple(speeds))
