"""Makes a table of runs: from a folder of our own runs, or from a file that `analysis.tables.files` reads."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import pandas as pd

from analysis.tables.column_roles import (
    NAMES,
    TEXT_ROLES,
    UNCERTAIN_NAMES,
    assign_roles,
    candidates_of,
    number_column,
    plain_name,
)
from analysis.tables.files import read_file, shown_name
from analysis.tables.row_choice import rows_with, without_repeated_rows
from analysis.tables.table import Table
from analysis.tables.units import UNITS, are_training_flops, check_units, unit_of_column
from scaling.core.errors import UserError
from scaling.core.records import read_records, training_table


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
    axes: tuple[str, ...] = ()
    """Further columns that every run needs: those that the law has as axes."""
    drop_top: int = 0
    """Number of rows with the highest values of the metric that are left out."""


def read_table(path: Path, options: TableOptions | None = None) -> Table:
    """The runs of a table's file or of a folder of runs. Where D is missing it is C / (6 N), and C is 6 N D.

    Runs without the metric, or without an axis that is asked for, are left out by name; of a folder also those without
    a loss. A run that is listed twice counts once.
    Raises UserError where the file cannot be read, a column is missing or in another unit, or runs are of different
    VAEs.
    """
    options = options or TableOptions()
    is_folder = path.is_dir()
    if is_folder:
        table = _by_role(read_runs(path), options, str(path))
    else:
        content = read_file(path)
        table = _by_role(content.table, options, shown_name(path)).with_notes(*content.notes)
    _check_vaes(table.runs, table.path)
    check_units(table.runs, set(options.units), table.path)
    table = _with_tokens_and_flops(without_repeated_rows(table))
    metric = table.name_of(options.metric)
    for name in dict.fromkeys((*(("loss",) if is_folder else ()), metric, *map(table.name_of, options.axes))):
        if is_folder or name in table.runs:  # where a column is absent, whoever needs it says so
            table = table.without_missing(name)
    return table.without_top(options.drop_top, metric) if options.drop_top else table


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
    roles = assign_roles(raw, options.columns, path)
    for name, value in options.where.items():
        raw = rows_with(raw, name if name in raw else roles.get(name, name), value, path)
    roles = {role: column for role, column in roles.items() if not _is_unclear(role, column, roles, raw, options)}
    notes = []
    for role, column in roles.items():
        others = [name for name in candidates_of(role, raw) if name not in roles.values()]
        if others and role not in options.columns and role not in TEXT_ROLES:
            notes.append(f"{role} is '{column}'; for '{others[0]}' give --column {role}='{others[0]}'")
    other_columns = [column for column in raw.columns if column not in roles.values() and column not in NAMES]
    runs = raw[other_columns].copy()
    sources = []
    for role, column in roles.items():
        if role in TEXT_ROLES:
            runs[role] = raw[column].map(str, na_action="ignore")
            continue
        values = number_column(raw, column, path)
        unit = options.units.get(role) or unit_of_column(column, role, values, path)
        runs[role] = values * unit
        if role in UNITS or role == "loss":
            times = f" x {unit:g}" if unit != 1 else ""
            sources.append(f"{role}: column '{column}'{times}" + (f", {UNITS[role]}" if role in UNITS else ""))
    for role in options.units:
        if role not in runs:
            raise UserError(f"--unit {role}={options.units[role]:g}: the table has no {role}")
    numbered = pd.Series([f"row {i + 1}" for i in runs.index], index=runs.index)
    runs["run_id"] = runs["run_id"].fillna(numbered) if "run_id" in runs else numbered
    role_of = {column: role for role, column in roles.items()}
    return Table(runs.reset_index(drop=True), tuple(sources), (), path, tuple(notes), role_of)


def _is_unclear(role: str, column: str, roles: Mapping[str, str], raw: pd.DataFrame, options: TableOptions) -> bool:
    """Whether a column was recognized by a name that other things have, too, and is no training compute."""
    if role in options.columns or plain_name(column) not in UNCERTAIN_NAMES:
        return False
    if not {"n_params", "num_tokens"} <= set(roles):
        return True
    N, D, C = (pd.to_numeric(raw[name], errors="coerce") for name in (roles["n_params"], roles["num_tokens"], column))
    units = [options.units.get(name, 1.0) for name in ("n_params", "num_tokens", role)]
    return not are_training_flops(C * units[2], N * units[0], D * units[1])


def _with_tokens_and_flops(table: Table) -> Table:
    """The table with D from C, or C from D, where one of them is missing."""
    runs, sources = table.runs, list(table.column_sources)
    if "num_tokens" not in runs and {"n_params", "train_flops"} <= set(runs):
        runs["num_tokens"] = runs["train_flops"] / (6 * runs["n_params"])
        sources.append("num_tokens: train_flops / (6 n_params), tokens")
    if "train_flops" not in runs and {"n_params", "num_tokens"} <= set(runs):
        runs["train_flops"] = 6 * runs["n_params"] * runs["num_tokens"]
        sources.append("train_flops: 6 n_params num_tokens, FLOPs")
    return replace(table, runs=runs, column_sources=tuple(sources))


def _check_vaes(runs: pd.DataFrame, where: str) -> None:
    """Raises UserError where runs are of different VAEs."""
    if "vae_id" in runs and runs["vae_id"].nunique(dropna=False) > 1:
        vaes = sorted(runs["vae_id"].fillna("not recorded").unique())
        raise UserError(
            f"{where}: runs of different VAEs do not compare: {', '.join(vaes)}; choose one by --where vae_id={vaes[0]}"
        )
