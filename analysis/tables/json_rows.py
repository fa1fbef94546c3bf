"""Tables in JSON: a list of rows, columns of values, pandas' `split` layout, or a row on each line."""

import json
from typing import Any

import pandas as pd


def read_json(text: str) -> tuple[pd.DataFrame, list[str]]:
    """The table, and what was assumed. Raises ValueError where the text is no JSON or no table."""
    try:
        document = json.loads(text)
    except json.JSONDecodeError as problem:
        if problem.msg != "Extra data" or not text.lstrip().startswith("{"):
            raise
        return read_json_lines(text)[0], ["one row a line"]
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    return _table(document)


def read_json_lines(text: str) -> tuple[pd.DataFrame, list[str]]:
    """The table of a text with one JSON object a line, and what was assumed: nothing."""
    rows = []
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except (json.JSONDecodeError, RecursionError) as problem:
            raise ValueError(f"line {number}: {problem}") from None
        if not isinstance(row, dict):
            raise ValueError(f"line {number} is no object with the names of columns")
        rows.append(row)
    return _rows(rows), []


def _table(document: Any) -> tuple[pd.DataFrame, list[str]]:
    if isinstance(document, list):
        if not all(isinstance(row, dict) for row in document):
            raise ValueError("it is a list of something else than objects with the names of columns")
        return _rows(document), []
    if not isinstance(document, dict):
        raise ValueError("it is neither a list of rows nor an object of columns")
    if isinstance(document.get("columns"), list) and isinstance(document.get("data"), list):
        try:
            table = pd.DataFrame(document["data"], columns=document["columns"])
        except (ValueError, TypeError, AssertionError) as problem:
            raise ValueError(f"its data do not fit its columns: {problem}") from None
        return table, []
    lists = [name for name, value in document.items() if _is_rows(value)]
    if len(lists) == 1 and not any(isinstance(value, list) for name, value in document.items() if name != lists[0]):
        return _rows(document[lists[0]]), [f"the rows of '{lists[0]}'"]
    if document and all(isinstance(column, (list, dict)) for column in document.values()):
        try:
            return pd.DataFrame(document).reset_index(drop=True), []
        except (ValueError, TypeError) as problem:
            raise ValueError(f"its columns do not fit together: {problem}") from None
    raise ValueError("it is neither a list of rows nor an object of columns")


def _is_rows(value: object) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(row, dict) for row in value)


def _rows(rows: list[dict[str, Any]]) -> pd.DataFrame:
    """Nested objects become columns with dotted names, such as config.n_params."""
    if any(isinstance(cell, dict) for row in rows for cell in row.values()):
        return pd.json_normalize(rows)
    return pd.DataFrame(rows)
