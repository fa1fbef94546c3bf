"""Tables of runs: from a folder of our own runs, or from anybody's CSV, Parquet or JSON."""

import sys
from collections.abc import Callable
from difflib import get_close_matches
from pathlib import Path

import pandas as pd

from scaling.errors import UserError
from scaling.records import read_records, training_table

READERS: dict[str, Callable[[Path], pd.DataFrame]] = {
    ".csv": pd.read_csv,
    ".parquet": pd.read_parquet,
    ".json": pd.read_json,
    ".jsonl": lambda path: pd.read_json(path, lines=True),
}


def read_table(path: Path) -> pd.DataFrame:
    """The columns run_id, n_params, num_tokens and loss of a table's file or of a folder of runs.

    A file needs n_params, num_tokens (or train_flops: then D = C / 6N, said on stderr) and val_loss or loss.

    Raises UserError where the file cannot be read, or lacks a column: the nearest name that it has is given.
    """
    table = read_runs(path) if path.is_dir() else _read_file(path)
    wanted = pd.DataFrame({"n_params": numbers(table, "n_params", path)})
    if "num_tokens" not in table and "train_flops" in table:
        print(f"{path}: no column num_tokens; taking D = train_flops / (6 n_params)", file=sys.stderr)
        wanted["num_tokens"] = numbers(table, "train_flops", path) / (6 * wanted["n_params"])
    else:
        wanted["num_tokens"] = numbers(table, "num_tokens", path)
    wanted["loss"] = numbers(table, "loss" if "loss" in table and "val_loss" not in table else "val_loss", path)
    names = table["run_id"] if "run_id" in table else pd.Series([f"row {i + 1}" for i in range(len(table))])
    wanted.insert(0, "run_id", names.astype(str))
    return wanted


def read_runs(path: Path) -> pd.DataFrame:
    """The training table of a folder of runs. Raises UserError where it holds no finished run."""
    table = training_table(read_records(path))
    if table.empty:
        raise UserError(
            f"{path}: no finished DiT run below this folder; give the folder that holds the stages' folders"
        )
    return table


def numbers(table: pd.DataFrame, name: str, path: Path) -> pd.Series:
    """A column as floats. Raises UserError where it is absent or holds text."""
    if name not in table:
        columns = [str(column) for column in table.columns]
        near = get_close_matches(name.lower(), [column.lower() for column in columns], n=1, cutoff=0.5)
        found = next((column for column in columns if near and column.lower() == near[0]), None)
        hint = f"rename '{found}'?" if found else f"it has {', '.join(columns) or 'none'}"
        raise UserError(f"{path}: no column '{name}'; {hint}")
    values = pd.to_numeric(table[name], errors="coerce").astype(float)
    text = table[name][values.isna() & table[name].notna()]
    if len(text):
        raise UserError(f"{path}: column '{name}' holds {text.iloc[0]!r} in row {text.index[0] + 1}, expected a number")
    return values


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
