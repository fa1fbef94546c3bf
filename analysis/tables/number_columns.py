"""Columns of text that are columns of numbers, and what had to be assumed to read them.

Not here: how one number is written (`analysis.tables.numerals`), and what a column means.
"""

from collections.abc import Iterable

import numpy as np
import pandas as pd

from analysis.tables.numerals import (
    NO_NUMBER,
    Comma,
    comma_use,
    has_decimal_point,
    has_multiple,
    is_number,
    may_group_by_points,
    number,
)
from scaling.core.errors import UserError

LONGEST_INTEGER = 18
"""Characters of a whole number that 64 bits hold in any case."""


def with_numbers(table: pd.DataFrame, names_of_text: Iterable[str] = ()) -> tuple[pd.DataFrame, list[str]]:
    """The table with those columns of text as numbers that hold nothing else, and what was assumed.

    Columns in which a comma may be either mark stay text where no other column tells which it is.
    names_of_text: columns that hold names, even where these look like numbers.
    """
    named = set(names_of_text)
    texts = {str(name): _texts(table[name]) for name in table if name not in named and _is_text(table[name])}
    uses = {name: comma_use(cells) for name, cells in texts.items() if all(map(is_number, cells))}
    known = {use for use in uses.values() if use in ("decimal", "thousands")}
    table_comma: Comma | None = None
    if len(known) == 1:
        table_comma = "decimal" if "decimal" in known else "thousands"
    elif not known and "either" in uses.values():
        points = any(has_decimal_point(texts[name]) for name, use in uses.items() if use == "none")
        # A table has one decimal mark: where it is the point, commas separate thousands.
        table_comma = "thousands" if points or _has_fractions(table) else None
    columns: dict[str, pd.Series] = {}
    by_comma: dict[str, list[str]] = {}
    for name, use in uses.items():
        if (
            use == "both"
            or (use == "either" and table_comma is None)
            or (use == "none" and table_comma == "decimal" and may_group_by_points(texts[name]))
        ):
            continue
        comma = table_comma if use == "either" else "decimal" if use == "decimal" else None
        columns[name] = _numbers(table[name], comma)
        if comma or use != "none":
            by_comma.setdefault(comma or use, []).append(name)
    assumed = []
    if "decimal" in by_comma:
        assumed.append(f"decimal commas ({_listed(by_comma['decimal'])})")
    if "thousands" in by_comma:
        assumed.append(f"commas between thousands ({_listed(by_comma['thousands'])})")
    if multiples := [name for name in columns if any(map(has_multiple, texts[name]))]:
        assumed.append(f"K, M, B and T as thousands, millions, billions and trillions ({_listed(multiples)})")
    return table.assign(**columns), assumed


def numbers_of_column(column: pd.Series, where: str) -> pd.Series:
    """A column as floats, missing as NaN. Raises UserError where it holds text or a number that can be read in two
    ways; `where` is the file."""
    if not _is_text(column):
        return pd.to_numeric(column, errors="raise").astype(float)
    cells = [(index, str(cell)) for index, cell in column.dropna().items() if str(cell).lower() not in NO_NUMBER]
    texts = [text for _, text in cells]
    use = comma_use(texts)
    for index, text in cells:
        if not is_number(text):
            raise UserError(f"{where}: column '{column.name}' holds {text!r} in row {_row(index)}, expected a number")
    if use == "both":
        raise UserError(
            f"{where}: column '{column.name}' mixes decimal commas with points or with commas between thousands"
        )
    mark = "," if use == "either" else "." if use == "none" and may_group_by_points(texts) else ""
    for index, text in cells:
        if mark and mark in text:
            meanings = f"{text.replace(mark, '')} or {text.replace(mark, '.')}"
            raise UserError(
                f"{where}: column '{column.name}' holds {text!r} in row {_row(index)}, which may be {meanings}; write "
                "plain numbers, such as 1234.5"
            )
    return _numbers(column, "decimal" if use == "decimal" else None).astype(float)


def _numbers(column: pd.Series, comma: Comma | None) -> pd.Series:
    """A column of numbers as numbers: whole numbers where all are."""
    values = [_value(cell, comma) for cell in column]
    if values and all(isinstance(value, int) for value in values):
        return pd.Series(values, index=column.index, dtype=np.int64)
    return pd.Series(values, index=column.index, dtype=float)


def _value(cell: object, comma: Comma | None) -> float:
    text = str(cell).strip()
    if cell is None or cell is pd.NA or cell != cell or text.lower() in NO_NUMBER:
        return np.nan
    if len(text) <= LONGEST_INTEGER and text.isascii() and text.removeprefix("-").isdigit():
        return int(text)
    value = number(text, comma)
    assert value is not None, f"{text!r} was taken for a number"
    return value


def _texts(column: pd.Series) -> list[str]:
    """The cells with a value, as text."""
    texts = [str(cell).strip() for cell in column.dropna()]
    return [text for text in texts if text.lower() not in NO_NUMBER]


def _is_text(column: pd.Series) -> bool:
    return not (pd.api.types.is_numeric_dtype(column) or pd.api.types.is_bool_dtype(column))


def _has_fractions(table: pd.DataFrame) -> bool:
    """Whether a column of numbers, as Parquet and JSON have them, has fractions: its file writes decimal points."""
    return any(pd.api.types.is_float_dtype(table[name]) and (table[name].dropna() % 1 != 0).any() for name in table)


def _listed(names: list[str]) -> str:
    return f"column{'s' if len(names) > 1 else ''} {', '.join(names)}"


def _row(index: object) -> int:
    return int(str(index)) + 1
