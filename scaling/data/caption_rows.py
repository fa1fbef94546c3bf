"""The rows of a captions file, parsed strictly: an error names the file, the line and the way out.

Not which video a row belongs to (`scaling.data.caption_files`). Two kinds of columns are known: `file` with `caption`,
and those of Hugging Face's folders of videos and images, `file_name` with `caption` or `text`.
"""

import csv
import io
from collections.abc import Iterator
from dataclasses import dataclass
from difflib import get_close_matches
from functools import partial
from pathlib import Path
from typing import Any

from scaling.core.byte_order_marks import encoding_of_mark
from scaling.core.errors import UserError
from scaling.data.json_lines import json_object

JSON_SUFFIXES = (".jsonl", ".ndjson", ".json")
_EXPECTED = "an object with 'file' and 'caption'"


@dataclass(frozen=True, slots=True)
class CaptionRow:
    """One row of a captions file."""

    line: int
    """The line on which the row begins, counted from 1."""
    file: str
    """The name of the video as it is written in the row."""
    caption: str


def caption_rows(path: Path) -> Iterator[CaptionRow]:
    """The rows of a CSV or JSONL file. Raises UserError where a row cannot be read."""
    text = read_text(path)
    return _json_rows(path, text) if path.suffix.lower() in JSON_SUFFIXES else _csv_rows(path, text)


def read_text(path: Path) -> str:
    """A text file in UTF-8, or in UTF-16 or UTF-32 if it begins with a byte order mark. Raises UserError where it is in
    another encoding or cannot be read."""
    try:
        content = path.read_bytes()
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {error.strerror}") from None
    encoding = encoding_of_mark(content) or "utf-8"
    if encoding == "utf-8" and b"\0" in content:
        raise UserError(f"{path}: not a text file in UTF-8, because it holds zero bytes; save it as UTF-8")
    try:
        return content.decode(encoding)
    except UnicodeDecodeError as error:
        line = content[: error.start].decode(encoding, "replace").count("\n") + 1
        found = content[error.start : error.start + 1].hex()
        raise UserError(f"{path}:{line}: not in {encoding.upper()} (byte 0x{found}); save the file as UTF-8") from None


def _csv_rows(path: Path, text: str) -> Iterator[CaptionRow]:
    records = _csv_records(path, text)
    line, header = next(records, (1, list[str]()))
    if not header:
        raise UserError(f"{path}: empty; its first line must name the columns 'file' and 'caption'")
    header = [column.strip() for column in header]
    columns = _columns(path, line, header)
    for line, record in records:
        if len(record) > len(header):
            raise UserError(
                f"{path}:{line}: {len(record)} fields, but the first line names {len(header)} columns; put quotes "
                "around a caption or a name that holds the separator"
            )
        row: dict[str, Any] = dict.fromkeys(header) | dict(zip(header, record, strict=False))
        yield CaptionRow(line, *(_text(path, line, row, column) for column in columns))


def _csv_records(path: Path, text: str) -> Iterator[tuple[int, list[str]]]:
    """The fields of each record that is not blank, with the line on which it begins."""
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=_delimiter(text), strict=True, skipinitialspace=True)
    while True:
        line = reader.line_num + 1
        try:
            record = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            raise UserError(f"{path}:{line}: {_csv_mistake(str(error))}") from None
        if any(field.strip() for field in record):
            yield line, record


def _delimiter(text: str) -> str:
    """A comma, or what stands between the columns of the first line if there is no comma in it."""
    header = text.lstrip().split("\n", 1)[0]
    return next((separator for separator in ",;\t" if separator in header), ",")


def _csv_mistake(message: str) -> str:
    """The error of the CSV parser in words that say what to do."""
    if message == "unexpected end of data":
        return 'a quote is opened here and never closed; close it, or write "" for a quote inside quotes'
    if "expected after" in message:
        return 'text follows a closing quote in the row that begins here; close each quote, or write "" for one inside'
    if "field limit" in message:
        return f"a field of more than {csv.field_size_limit()} characters begins here; close its quote"
    return f"not valid CSV: {message}"


def _json_rows(path: Path, text: str) -> Iterator[CaptionRow]:
    for number, line in enumerate(text.split("\n"), start=1):
        if not line.strip():
            continue
        if line.lstrip().startswith("["):
            raise UserError(
                f"{path}:{number}: expected {_EXPECTED} on each line, found a JSON array; write one object on each "
                "line, without brackets and commas, as jq -c '.[]' does"
            )
        row = json_object(path, number, line, _EXPECTED, partial(_unique_names, path, number))
        columns = _columns(path, number, list(row))
        yield CaptionRow(number, *(_text(path, number, row, column) for column in columns))


def _unique_names(path: Path, line: int, pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """A JSON object, in which a name that is given twice is a mistake."""
    row = dict(pairs)
    if len(row) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise UserError(f"{path}:{line}: {twice!r} is given twice; keep one")
    return row


def _columns(path: Path, line: int, names: list[str]) -> tuple[str, str]:
    """The names of the columns with the file and with the caption. Raises UserError where one is missing or where
    several could be meant."""
    file = next((name for name in ("file", "file_name") if name in names), None)
    if file is None:
        raise _no_column(path, line, names, "file")
    captions = [name for name in (("caption",) if file == "file" else ("caption", "text")) if name in names]
    if not captions:
        raise _no_column(path, line, names, "caption")
    if len(captions) > 1:
        raise UserError(f"{path}:{line}: both columns {captions[0]!r} and {captions[1]!r}; remove one")
    for name in (file, captions[0]):
        if names.count(name) > 1:
            raise UserError(f"{path}:{line}: {names.count(name)} columns {name!r}; rename or remove all but one")
    return file, captions[0]


def _no_column(path: Path, line: int, names: list[str], name: str) -> UserError:
    similar = get_close_matches(name, names, n=1)
    hint = f"rename {similar[0]!r}" if similar else f"it has: {', '.join(repr(column)[1:-1] for column in names)}"
    return UserError(f"{path}:{line}: no column '{name}'; {hint}")


def _text(path: Path, line: int, row: dict[str, Any], column: str) -> str:
    value = row[column]
    if not isinstance(value, str):
        raise UserError(f"{path}:{line}: '{column}' must be text (found {value!r})")
    try:
        value.encode()
    except UnicodeEncodeError as error:
        half = value[error.start]
        raise UserError(
            f"{path}:{line}: '{column}' holds {half!r}, one half of a character (a lone surrogate); write the whole "
            "character or remove it"
        ) from None
    return value
