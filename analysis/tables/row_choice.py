"""Which rows of a table are kept: those with a value that is asked for, and each run once.

Not here: rows in which a number is missing (`analysis.tables.table.Table.without_missing`).
"""

import math

import numpy as np
import pandas as pd

from analysis.tables.column_roles import NAMES, require_column
from analysis.tables.numerals import number
from analysis.tables.table import ExcludedRun, Table
from scaling.core.errors import UserError


def rows_with(table: pd.DataFrame, column: str, value: str, where: str) -> pd.DataFrame:
    """The rows that hold a value, which is compared as a number with numbers: 0.50 is 0.5, and 1e6 is 1000000.

    Raises UserError where the column is absent or no row has the value; `where` is the file.
    """
    require_column(table, column, where, any_type=True)
    is_equal = table[column].map(str) == value
    if not is_equal.any() and (wanted := number(value)) is not None:
        is_equal = table[column].map(lambda cell: _is_number_like(cell, wanted))
    if not is_equal.any():
        values = ", ".join(map(str, pd.unique(table[column])[:6]))
        raise UserError(f"{where}: no row has {column} = {value}; it holds {values}")
    return table[is_equal.to_numpy(dtype=bool)]


def _is_number_like(cell: object, wanted: float) -> bool:
    value = None if isinstance(cell, bool) else number(str(cell))
    return value is not None and math.isclose(value, wanted, rel_tol=1e-12)


def without_repeated_rows(table: Table) -> Table:
    """The table with each run once: of rows that are equal in everything but their name, the first is kept.

    Rows of different names, and rows of a table that repeats sizes with other losses, may be repeated seeds whose
    rounded losses are equal. Those are kept, with a note.
    """
    runs = table.runs
    roles = [role for role in NAMES if role in runs and role != "run_id"]
    compared = runs[[*roles, *runs.columns.difference(list(NAMES), sort=False)]].map(str)
    repeated = compared.duplicated().to_numpy()
    if not repeated.any():
        return table
    first_of = {row: i for i, row in reversed(list(enumerate(compared.itertuples(index=False, name=None))))}
    firsts = [first_of[row] for row in compared.itertuples(index=False, name=None)]
    names = runs["run_id"].tolist()
    if _repeats_sizes(runs[~repeated]) or _has_own_names(names):
        pairs = [f"{names[firsts[i]]} and {names[i]}" for i in np.flatnonzero(repeated)]
        note = f"equal in all columns, and kept as repeated seeds: {'; '.join(pairs[:3])}"
        return table.with_notes(note + (f" and {len(pairs) - 3} more" if len(pairs) > 3 else ""))
    excluded = [ExcludedRun(names[i], f"the same as {names[firsts[i]]}") for i in np.flatnonzero(repeated)]
    return table.without_runs(repeated, excluded)


def _repeats_sizes(runs: pd.DataFrame) -> bool:
    """Whether runs of equal size, data and compute have different losses."""
    axes = [role for role in ("n_params", "num_tokens", "train_flops") if role in runs]
    return "loss" in runs and len(axes) > 1 and bool(runs.duplicated(subset=axes).any())


def _has_own_names(names: list[str]) -> bool:
    return len(set(names)) == len(names) and not all(name.startswith("row ") for name in names)
