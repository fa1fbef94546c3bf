"""A table of runs as a value: one run a row, columns by role. Reading one from a disk is `analysis.tables.read`."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from analysis.tables.arrays import Array
from analysis.tables.column_roles import number_column, require_column
from scaling.core.errors import UserError

DERIVED = ("run_id", "num_tokens", "train_flops")
"""Columns that a table gets where its file has none."""


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
    notes: tuple[str, ...] = ()
    """What was assumed when it was read, a sentence each."""
    role_of: Mapping[str, str] = field(default_factory=dict)
    """Column of the file -> the role that it has."""

    def name_of(self, column: str) -> str:
        """The name in `runs` of a column that is given by its role or by its name in the file."""
        return column if column in self.runs else self.role_of.get(column, column)

    def axis(self, name: str) -> Array:
        """A column as floats, (runs,). Raises UserError where it is absent or holds text."""
        name = self.name_of(name)
        if name not in self.runs:  # the message lists the columns under the names that the user knows
            own_names = {role: column for column, role in self.role_of.items()}
            derived = [role for role in DERIVED if role not in own_names]
            require_column(self.runs.drop(columns=derived, errors="ignore").rename(columns=own_names), name, self.path)
        return number_column(self.runs, name, self.path).to_numpy()

    @property
    def run_ids(self) -> tuple[str, ...]:
        return tuple(self.runs["run_id"])

    def with_notes(self, *notes: str) -> "Table":
        """The table with further notes."""
        return replace(self, notes=(*self.notes, *notes))

    def without_runs(self, rows: NDArray[np.bool_], excluded: Sequence[ExcludedRun]) -> "Table":
        """The table without the rows of a mask, which are listed as excluded."""
        return replace(self, runs=self.runs[~rows].reset_index(drop=True), excluded=(*self.excluded, *excluded))

    def without(self, rows: NDArray[np.bool_], reason: str) -> "Table":
        """The table without the rows of a mask, which are listed as excluded for a reason."""
        return self.without_runs(rows, [ExcludedRun(run, reason) for run in self.runs["run_id"][rows]])

    def without_missing(self, name: str) -> "Table":
        """The table without the rows in which a column has no finite value. Raises UserError where no row has one."""
        values = self.axis(name)
        if not np.isfinite(values).any():
            raise UserError(f"{self.path}: no run has a value of {name}")
        table = self.without(np.isnan(values), f"no {name}")
        return table.without(np.isinf(table.axis(name)), f"infinite {name}")

    def without_top(self, count: int, metric: str = "loss") -> "Table":
        """The table without the rows of the `count` highest values of the metric."""
        order = np.argsort(-self.axis(metric), kind="stable")
        return self.without(np.isin(np.arange(len(order)), order[:count]), f"among the {count} highest of {metric}")
