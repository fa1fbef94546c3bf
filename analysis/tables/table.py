"""Tables of runs: from a folder of our own runs, or from anybody's CSV, Parquet or JSON."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd

from analysis.tables.columns import NAMES, UNITS, assign, check_units, numbers, require
from scaling.core.errors import UserError
from scaling.core.records import read_records, training_table

READERS: dict[str, Callable[[Path], pd.DataFrame]] = {
    ".csv": pd.read_csv,
    ".parquet": pd.read_parquet,
    ".json": pd.read_json,
    ".jsonl": lambda path: pd.read_json(path, lines=True),
}
TEXT = ("run_id", "vae_id", "seed")


@dataclass(frozen=True)
class Reading:
    """How a table is to be read."""

    columns: Mapping[str, str] = field(default_factory=dict)
    """Role -> column; what is not named is guessed (`analysis.tables.columns`)."""
    units: Mapping[str, float] = field(default_factory=dict)
    """Role -> what one unit of it is, such as 1e6 for parameters in millions."""
    where: Mapping[str, str] = field(default_factory=dict)
    """Column -> the value that its rows must have."""


@dataclass(frozen=True)
class Left:
    """A run that was left out."""

    run: str
    reason: str


@dataclass(frozen=True, eq=False)
class Table:
    """Runs, one a row."""

    runs: pd.DataFrame
    """Columns by role (`analysis.tables.columns.NAMES`) where the table has them, and all others by their own names."""
    said: tuple[str, ...]
    """What each role was taken from, with its unit."""
    left: tuple[Left, ...]
    path: str

    def axis(self, name: str) -> np.ndarray:
        """A column as floats, (runs,). Raises UserError where it is absent or holds text."""
        return numbers(self.runs, name, self.path).to_numpy()

    def without(self, rows: np.ndarray, reason: str) -> "Table":
        """The table without the rows of a mask, which are listed as left out for a reason."""
        gone = tuple(Left(run, reason) for run in self.runs["run_id"][rows])
        return Table(self.runs[~rows].reset_index(drop=True), self.said, (*self.left, *gone), self.path)

    def without_missing(self, metric: str) -> "Table":
        """The table without the rows in which the metric was not measured."""
        return self.without(np.isnan(self.axis(metric)), f"no {metric}")

    def without_top(self, count: int, metric: str = "loss") -> "Table":
        """The table without the rows of the `count` highest values of the metric."""
        order = np.argsort(-self.axis(metric), kind="stable")
        return self.without(np.isin(np.arange(len(order)), order[:count]), f"among the {count} highest of {metric}")


def read_table(path: Path, reading: Reading | None = None) -> Table:
    """The runs of a table's file or of a folder of runs. Where D is missing it is C / (6 N), and C is 6 N D.

    Raises UserError where the file cannot be read, a column is missing or in another unit, rows are repeated, or runs
    are of different VAEs.
    """
    reading = reading or Reading()
    where, folder = str(path), path.is_dir()
    raw = read_runs(path) if folder else _read_file(path)
    for name, value in reading.where.items():
        require(raw, name, where)
        kept = raw[raw[name].astype(str) == value]
        if kept.empty:
            values = ", ".join(map(str, pd.unique(raw[name])[:6]))
            raise UserError(f"{where}: no row has {name} = {value}; it holds {values}")
        raw = kept.reset_index(drop=True)
    roles = assign(raw, reading.columns, where)
    others = [column for column in raw.columns if column not in roles.values() and column not in NAMES]
    runs = raw[others].copy()
    said = []
    for role, column in roles.items():
        if role in TEXT:
            runs[role] = raw[column].astype(str)
            continue
        unit = reading.units.get(role, 1.0)
        runs[role] = numbers(raw, column, where) * unit
        if role in UNITS or role == "loss":
            times = f" x {unit:g}" if unit != 1 else ""
            said.append(f"{role}: column '{column}'{times}" + (f", {UNITS[role]}" if role in UNITS else ""))
    for role in reading.units:
        if role not in runs:
            raise UserError(f"--unit {role}={reading.units[role]:g}: the table has no {role}")
    if "run_id" not in runs:
        runs["run_id"] = [f"row {i + 1}" for i in range(len(runs))]
    _check_rows(runs, where)
    check_units(runs, set(reading.units), where)
    if "num_tokens" not in runs and {"n_params", "train_flops"} <= set(runs):
        runs["num_tokens"] = runs["train_flops"] / (6 * runs["n_params"])
        said.append("num_tokens: train_flops / (6 n_params), tokens")
    if "train_flops" not in runs and {"n_params", "num_tokens"} <= set(runs):
        runs["train_flops"] = 6 * runs["n_params"] * runs["num_tokens"]
        said.append("train_flops: 6 n_params num_tokens, FLOPs")
    found = Table(runs, tuple(said), (), where)
    return found.without_missing("loss") if folder else found


def read_runs(path: Path) -> pd.DataFrame:
    """The training table of a folder of runs. Raises UserError where it holds no finished run."""
    table = training_table(read_records(path))
    if table.empty:
        raise UserError(
            f"{path}: no finished DiT run below this folder; give the folder that holds the stages' folders"
        )
    return table


def _check_rows(runs: pd.DataFrame, where: str) -> None:
    """Raises UserError where rows are repeated, or runs are of different VAEs."""
    named = [role for role in NAMES if role in runs and role != "run_id"]
    again = runs.duplicated(subset=[*named, *runs.columns.difference(list(NAMES))])
    if again.any():
        second = int(np.flatnonzero(again)[0])
        same = (runs[named] == runs[named].iloc[second]).all(axis=1).to_numpy()
        first = int(np.flatnonzero(same)[0]) if same.any() else second
        raise UserError(f"{where}: rows {first + 1} and {second + 1} are the same run; delete one of them")
    if "vae_id" in runs and runs["vae_id"].nunique() > 1:
        vaes = sorted(runs["vae_id"].unique())
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
