"""Which character separates the cells of a table of text, and the cells of each of its lines.

Not here: which line is the header (`analysis.tables.delimited`), and which cells are numbers.
"""

import csv
from collections.abc import Iterator
from typing import NamedTuple

SEPARATORS = {",": "comma", ";": "semicolon", "\t": "tab", "|": "bar"}
WHITESPACE = "whitespace"
SAMPLE = 200
"""Lines that are looked at to find the separator."""


class Row(NamedTuple):
    """The cells of one row, without the spaces around them."""

    line: int
    """Number of the line at which the row ends, from 1."""
    cells: list[str]


def separator_of(lines: list[str]) -> str:
    """One of SEPARATORS, or WHITESPACE. Raises ValueError where two would divide the lines equally well.

    A separator divides the header, and most lines into as many cells as the header.
    """
    shares = {separator: _share_like_header(lines, separator) for separator in SEPARATORS}
    possible = {separator: share for separator, share in shares.items() if share > 0}
    if not possible:
        counts = {len(line.split()) for line in lines if line.strip()}
        return WHITESPACE if len(counts) == 1 and counts != {1} else ","
    best = [separator for separator, share in possible.items() if share == max(possible.values())]
    if len(best) > 1:
        names = " or ".join(SEPARATORS[separator] for separator in best)
        raise ValueError(f"its cells may be separated by {names}; save it with one of them alone")
    return best[0]


def rows_of(lines: list[str], separator: str) -> Iterator[Row]:
    """The rows with any cell in them. Raises ValueError for a quote that is wrong, with its line."""
    if separator == WHITESPACE:
        rows = ((number, line.split()) for number, line in enumerate(lines, 1))
        yield from (Row(number, cells) for number, cells in rows if cells)
        return
    reader = csv.reader((f"{line}\n" for line in lines), delimiter=separator, skipinitialspace=True, strict=True)
    try:
        for cells in reader:
            if cells:
                yield Row(reader.line_num, [cell.strip() for cell in cells])
    except csv.Error as problem:
        raise ValueError(f"line {reader.line_num}: {problem}") from None


def _share_like_header(lines: list[str], separator: str) -> float:
    """The share of lines with as many cells as the header; 0 where the separator does not divide the header."""
    counts = []
    try:
        for row in rows_of(lines, separator):
            counts.append(len(row.cells))
            if len(counts) > SAMPLE:
                break
    except ValueError:
        if not counts:
            return 0.0
    if not counts or counts[0] < 2:
        return 0.0
    return sum(count == counts[0] for count in counts) / len(counts)
