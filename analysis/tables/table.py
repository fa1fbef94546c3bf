"""A table of runs as a value: one run a row, columns by role. Reading one from a disk is `analysis.tables.read`."""

from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from analysis.tables.arrays import Array
from analysis.tables.column_roles import number_column


@dataclass(frozen=True)
class ExcludedRun:
    """A run that was left out of the table."""

    run: str
    reason: str


@dataclass(frozen=True, eq=False)
class Table:
    """Runs, one a row."""

    runs: pd.DataFrame
    """Columns by role (`analysis.tables.column_roles.NAMES`) where the table has them, and all others by their own
    names."""
    column_sources: tuple[str, ...]
    """For each role the column that it was taken from, with its unit, as one line of text."""
    excluded: tuple[ExcludedRun, ...]
    path: str
    """The file or folder that the table was read from, for messages."""

    def axis(self, name: str) -> Array:
        """A column as floats, (runs,). Raises UserError where it is absent or holds text."""
        return number_column(self.runs, name, self.path).to_numpy()

    @property
    def run_ids(self) -> tuple[str, ...]:
        return tuple(self.runs["run_id"])

    def without(self, rows: NDArray[np.bool_], reason: str) -> "Table":
        """The table without the rows of a mask, which are listed as excluded for a reason."""
        excluded = tuple(ExcludedRun(run, reason) for run in self.runs["run_id"][rows])
        return Table(
            self.runs[~rows].reset_index(drop=True), self.column_sources, (*self.excluded, *excluded), self.path
        )

    def without_missing(self, metric: str) -> "Table":
        """The table without the rows in which the metric was not measured."""
        return self.without(np.isnan(self.axis(metric)), f"no {metric}")

    def without_top(self, count: int, metric: str = "loss") -> "Table":
        """The table without the rows of the `count` highest values of the metric."""
        order = np.argsort(-self.axis(metric), kind="stable")
        return self.without(np.isin(np.arange(len(order)), order[:count]), f"among the {count} highest of {metric}")
