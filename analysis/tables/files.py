"""Reads the file of a table, of whatever kind, and says what it had to assume.

Not here: which column means what (`analysis.tables.column_roles`).
"""

import bz2
import gzip
import io
import lzma
import sys
import warnings
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from analysis.tables.column_roles import names_of_text
from analysis.tables.delimited import read_delimited
from analysis.tables.json_rows import read_json, read_json_lines
from analysis.tables.number_columns import with_numbers
from analysis.tables.text_encoding import decode
from scaling.core.errors import UserError

STDIN = Path("-")
TEXT_READERS: dict[str, Callable[[str], tuple[pd.DataFrame, list[str]]]] = {
    ".csv": read_delimited,
    ".tsv": read_delimited,
    ".txt": read_delimited,
    ".md": read_delimited,
    ".json": read_json,
    ".jsonl": read_json_lines,
    ".ndjson": read_json_lines,
}
SUFFIXES = (*TEXT_READERS, ".parquet", ".xlsx")
COMPRESSED: dict[str, Callable[[bytes], bytes]] = {
    ".gz": gzip.decompress,
    ".bz2": bz2.decompress,
    ".xz": lzma.decompress,
}


@dataclass(frozen=True, eq=False)
class FileContent:
    """What a file holds: columns under their own names."""

    table: pd.DataFrame
    notes: tuple[str, ...]
    """What was assumed, as sentences without a full stop."""


def read_file(path: Path) -> FileContent:
    """The table of a file, or of the standard input for the path `-`; rows without any value are left out.

    Raises UserError where it cannot be read, or can be read in two ways.
    """
    name = shown_name(path)
    compression = COMPRESSED.get(path.suffix.lower())
    suffix = Path(path.stem).suffix.lower() if compression else path.suffix.lower()
    if suffix not in SUFFIXES and suffix:
        raise UserError(f"{name}: unknown kind of table; give {', '.join(SUFFIXES)} or a folder of runs")
    try:
        data = sys.stdin.buffer.read() if path == STDIN else path.read_bytes()
        if compression:
            data = compression(data)
        table, assumed = _parse(data, suffix or _kind_of(data))
    except FileNotFoundError:
        raise UserError(f"{name}: no such file") from None
    except (ValueError, OSError, EOFError, zlib.error, lzma.LZMAError) as problem:  # pandas and pyarrow derive theirs
        kind = suffix[1:] or "a table"
        raise UserError(f"{name}: cannot be read as {kind}: {' '.join(str(problem).split())}") from None
    table = table.set_axis([str(column).strip() for column in table.columns], axis=1)
    if not table.columns.is_unique:
        repeated = table.columns[table.columns.duplicated()][0]
        raise UserError(f"{name}: two columns are called '{repeated}'; rename one of them")
    table, numbers = with_numbers(table, names_of_text(table))
    blank = table.isna().all(axis=1)
    notes = [f"read as {', '.join([*assumed, *numbers])}"] if assumed or numbers else []
    if blank.any():
        notes.append(f"blank rows left out: {int(blank.sum())}")
    if blank.all():
        raise UserError(f"{name}: holds no rows")
    return FileContent(table[~blank], tuple(notes))


def shown_name(path: Path) -> str:
    """What messages call the file."""
    return "standard input" if path == STDIN else str(path)


def _parse(data: bytes, suffix: str) -> tuple[pd.DataFrame, list[str]]:
    if suffix == ".parquet":
        return pd.read_parquet(io.BytesIO(data)).reset_index(drop=True), []
    if suffix == ".xlsx":
        return _read_excel(data), []
    text, encoding = decode(data)
    table, assumed = TEXT_READERS[suffix](text)
    return table, [encoding, *assumed] if encoding else assumed


def _kind_of(data: bytes) -> str:
    """The suffix that belongs to the content of a file without one."""
    if data.startswith(b"PAR1"):
        return ".parquet"
    return ".json" if data.lstrip()[:1] in (b"{", b"[") else ".csv"


def _read_excel(data: bytes) -> pd.DataFrame:
    with warnings.catch_warnings():  # of styles and other things that are no cells
        warnings.simplefilter("ignore")
        try:
            sheets = pd.read_excel(io.BytesIO(data), sheet_name=None, engine="openpyxl")
        except Exception as problem:  # of a damaged file, openpyxl raises whatever its parts raise
            raise ValueError(f"it is damaged: {problem}") from None
    filled = {name: sheet for name, sheet in sheets.items() if not sheet.empty}
    if len(filled) > 1:
        raise ValueError(f"it has the sheets {', '.join(map(str, filled))}; export one of them as CSV")
    return next(iter(filled.values()), pd.DataFrame())
