"""A table of text as columns of text: CSV and its relatives, and tables of Markdown.

Not here: the encoding (`analysis.tables.text_encoding`), and which cells are numbers (`analysis.tables.numerals`).
"""

import re
from collections import Counter

import pandas as pd

from analysis.tables.numerals import MISSING, is_number
from analysis.tables.separators import SEPARATORS, Row, rows_of, separator_of

MARKDOWN_RULE = re.compile(r"\|?(\s*:?-+:?\s*\|)+\s*(:?-+:?)?")


def read_delimited(text: str) -> tuple[pd.DataFrame, list[str]]:
    """The columns as text, missing cells as NaN, and what was assumed.

    Raises ValueError where the text has no header, cannot be divided into cells in one way, or has a row with more or
    fewer cells than the header.
    """
    lines = text.replace("\r\n", "\n").replace("\r", "\n").split("\n")
    if lines[0].lower().startswith("sep=") and len(lines[0]) == 5:  # Excel's own hint
        lines[0] = ""
    comments = [number for number, line in enumerate(lines) if line.lstrip().startswith("#")]
    plain_lines = ["" if number in set(comments) else line for number, line in enumerate(lines)]
    if not any(line.strip() for line in plain_lines):
        raise ValueError("it is empty")
    assumed: list[str] = []
    if _is_markdown(plain_lines):
        rows = _markdown_rows(plain_lines)
        assumed.append("a table of Markdown")
    else:
        separator = separator_of(plain_lines)
        rows = list(rows_of(plain_lines, separator))
        if separator != ",":
            assumed.append(f"{SEPARATORS.get(separator, separator)}-separated")
        if comments and _is_all_numbers(rows[0].cells):
            # numpy.savetxt writes the names of the columns as a comment.
            titles = lines[comments[-1]].lstrip().lstrip("#")
            rows = [*rows_of([titles], separator), *rows]
    if comments:
        assumed.append("lines beginning with # as comments")
    return _frame(rows), assumed


def _frame(rows: list[Row]) -> pd.DataFrame:
    names, body = rows[0].cells, rows[1:]
    if _is_all_numbers(names):
        raise ValueError("its first line holds numbers; put the names of the columns there")
    for row in body:
        extra = row.cells[len(names) :]
        if (len(row.cells) < len(names) and any(row.cells)) or any(extra):
            hint = "; numbers with commas need quotes" if any(extra) else ""
            raise ValueError(f"line {row.line} has {len(row.cells)} cells, the header {len(names)}{hint}")
    width = len(names)
    table = pd.DataFrame([(row.cells + [""] * width)[:width] for row in body], columns=range(width), dtype=object)
    table = table.map(lambda cell: None if cell.lower() in MISSING else cell)
    keep = [i for i in range(width) if names[i] or not _says_nothing(table[i])]
    named = table[keep].set_axis([names[i] or f"Unnamed: {i}" for i in keep], axis=1)
    return _without_equal_columns(named)


def _says_nothing(column: pd.Series) -> bool:
    """Whether a column without a name is empty, or only numbers the rows."""
    first = [str(number) for number in range(len(column) + 1)]
    return bool(column.isna().all()) or column.tolist() in (first[:-1], first[1:])


def _without_equal_columns(table: pd.DataFrame) -> pd.DataFrame:
    """Raises ValueError where columns of one name differ."""
    for name, times in Counter(table.columns).items():
        same_name = table.loc[:, table.columns == name]
        if times > 1 and not all(same_name.iloc[:, 0].equals(same_name.iloc[:, i]) for i in range(1, times)):
            raise ValueError(f"{times} columns are called '{name}'; rename all but one")
    return table.loc[:, ~table.columns.duplicated()]


def _is_all_numbers(cells: list[str]) -> bool:
    return bool(cells) and all(is_number(cell) for cell in cells)


def _is_markdown(lines: list[str]) -> bool:
    text_lines = [line for line in lines if line.strip()][:2]
    return len(text_lines) == 2 and "|" in text_lines[0] and bool(MARKDOWN_RULE.fullmatch(text_lines[1].strip()))


def _markdown_rows(lines: list[str]) -> list[Row]:
    rows = []
    for number, line in enumerate(lines, 1):
        if not line.strip() or MARKDOWN_RULE.fullmatch(line.strip()):
            continue
        if "|" not in line:
            raise ValueError(f"line {number} is no row of the table; give a file with one table alone")
        cells = re.split(r"(?<!\\)\|", line.strip().removeprefix("|").removesuffix("|"))
        rows.append(Row(number, [cell.replace("\\|", "|").strip(" *`") for cell in cells]))
    return rows
