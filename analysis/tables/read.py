"""Makes a table of runs: from a folder of our own runs, or from any CSV, Parquet or JSON file."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd

from analysis.tables.column_roles import NAMES, TEXT_ROLES, assign_roles, number_column, require_column
from analysis.tables.table import Table
from analysis.tables.units import UNITS, check_units
from scaling.core.errors import UserError
from scaling.core.records import read_records, training_table

READERS: dict[str, Callable[[Path], pd.DataFrame]] = {
    # By default pandas parses numbers fast, and wrong in the last bit: a file would not equal the runs that it lists.
    ".csv": lambda path: pd.read_csv(path, float_precision="round_trip"),
    ".parquet": pd.read_parquet,
    ".json": lambda path: pd.read_json(path, precise_float=True),
    ".jsonl": lambda path: pd.read_json(path, precise_float=True, lines=True),
}


@dataclass(frozen=True)
class TableOptions:
    """How a table is read, and which of its rows are kept."""

    columns: Mapping[str, str] = field(default_factory=dict)
    """Role -> column; a role that is not named is recognized by common names (`analysis.tables.column_roles`)."""
    units: Mapping[str, float] = field(default_factory=dict)
    """Role -> the size of one unit of it, such as 1e6 for parameters in millions."""
    where: Mapping[str, str] = field(default_factory=dict)
    """Column -> the value that its rows must have."""
    metric: str = "loss"
    """The column that will be fitted or forecast."""
    drop_top: int = 0
    """Number of rows with the highest values of the metric that are left out."""


def read_table(path: Path, options: TableOptions | None = None) -> Table:
    """The runs of a table's file or of a folder of runs. Where D is missing it is C / (6 N), and C is 6 N D.

    Of a folder, runs in which the loss or the metric was not measured are left out by name, because few runs are
    measured in every way; in a file a missing value is a mistake, which whoever uses the column refuses.
    Raises UserError where the file cannot be read, a column is missing or in another unit, rows are repeated, or runs
    are of different VAEs.
    """
    options = options or TableOptions()
    is_folder = path.is_dir()
    table = _by_role(read_runs(path) if is_folder else _read_file(path), options, str(path))
    _check_rows(table.runs, table.path)
    check_units(table.runs, set(options.units), table.path)
    table = _with_tokens_and_flops(table)
    for metric in dict.fromkeys(("loss", options.metric)) if is_folder else ():
        table = table.without_missing(metric)
    return table.without_top(options.drop_top, options.metric) if options.drop_top else table


def read_runs(path: Path) -> pd.DataFrame:
    """The training table of a folder of runs. Raises UserError where it holds no finished run."""
    table = training_table(read_records(path))
    if table.empty:
        raise UserError(
            f"{path}: no finished DiT run below this folder; give the folder that holds the stages' folders"
        )
    return table


def table_of_runs(training_runs: pd.DataFrame) -> Table:
    """The table of our own runs, as `scaling.core.records.training_table` gives them. Nothing is left out, and nothing
    is checked: the units of our records are known, and their runs are distinct."""
    return _by_role(training_runs, TableOptions(), "the table of runs")


def _by_role(raw: pd.DataFrame, options: TableOptions, path: str) -> Table:
    """The table with its columns named by role and in its units, before any check."""
    for name, value in options.where.items():
        require_column(raw, name, path)
        kept = raw[raw[name].astype(str) == value]
        if kept.empty:
            values = ", ".join(map(str, pd.unique(raw[name])[:6]))
            raise UserError(f"{path}: no row has {name} = {value}; it holds {values}")
        raw = kept.reset_index(drop=True)
    roles = assign_roles(raw, options.columns, path)
    other_columns = [column for column in raw.columns if column not in roles.values() and column not in NAMES]
    runs = raw[other_columns].copy()
    sources = []
    for role, column in roles.items():
        if role in TEXT_ROLES:
            runs[role] = raw[column].map(str, na_action="ignore")
            continue
        unit = options.units.get(role, 1.0)
        runs[role] = number_column(raw, column, path) * unit
        if role in UNITS or role == "loss":
            times = f" x {unit:g}" if unit != 1 else ""
            sources.append(f"{role}: column '{column}'{times}" + (f", {UNITS[role]}" if role in UNITS else ""))
    for role in options.units:
        if role not in runs:
            raise UserError(f"--unit {role}={options.units[role]:g}: the table has no {role}")
    numbered = pd.Series([f"row {i + 1}" for i in range(len(runs))], index=runs.index)
    runs["run_id"] = runs["run_id"].fillna(numbered) if "run_id" in runs else numbered
    return Table(runs, tuple(sources), (), path)


def _with_tokens_and_flops(table: Table) -> Table:
    """The table with D from C, or C from D, where one of them is missing."""
    runs, sources = table.runs, list(table.column_sources)
    if "num_tokens" not in runs and {"n_params", "train_flops"} <= set(runs):
        runs["num_tokens"] = runs["train_flops"] / (6 * runs["n_params"])
        sources.append("num_tokens: train_flops / (6 n_params), tokens")
    if "train_flops" not in runs and {"n_params", "num_tokens"} <= set(runs):
        runs["train_flops"] = 6 * runs["n_params"] * runs["num_tokens"]
        sources.append("train_flops: 6 n_params num_tokens, FLOPs")
    return Table(runs, tuple(sources), table.excluded, table.path)


def _check_rows(runs: pd.DataFrame, where: str) -> None:
    """Raises UserError where rows are repeated, or runs are of different VAEs."""
    roles = [role for role in NAMES if role in runs and role != "run_id"]
    repeated = runs.duplicated(subset=[*roles, *runs.columns.difference(list(NAMES))])
    if repeated.any():
        second = int(np.flatnonzero(repeated)[0])
        is_repeated = (runs[roles] == runs[roles].iloc[second]).all(axis=1).to_numpy()
        first = int(np.flatnonzero(is_repeated)[0]) if is_repeated.any() else second
        raise UserError(f"{where}: rows {first + 1} and {second + 1} are the same run; delete one of them")
    if "vae_id" in runs and runs["vae_id"].nunique(dropna=False) > 1:
        vaes = sorted(runs["vae_id"].fillna("not recorded").unique())
        raise UserError(
            f"{where}: runs of different VAEs do not compare: {', '.join(vaes)}; choose one by --where vae_id={vaes[0]}"
        )


def _read_file(path: Path) -> pd.DataFrame:
    reader = READERS.get(path.suffix.lower())
    if reader is None:
        raise UserError(f"{path}: unknown kind of table; give {', '.join(READERS)} or a folder of runs")
    try:
        table = reader(path)
    except FileNotFoundError:
        raise UserError(f"{path}: no such file") from None
    except (ValueError, OSError) as problem:  # pandas and pyarrow derive their parsing errors from ValueError
        raise UserError(f"{path}: cannot be read as {path.suffix[1:]}: {' '.join(str(problem).split())}") from None
    if not isinstance(table, pd.DataFrame) or table.empty:
        raise UserError(f"{path}: holds no rows")
    return table
