"""One line of a JSONL file as an object, with an error that names the file and the line."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from scaling.core.errors import UserError

MakeObject = Callable[[list[tuple[str, Any]]], dict[str, Any]]
"""Makes an object of its names and values."""


def json_object(
    path: Path, number: int, line: str, expected: str = "an object", make_object: MakeObject | None = None
) -> dict[str, Any]:
    """The object in line `number` of a file. Raises UserError where the line holds something else."""
    try:
        row = json.loads(line, object_pairs_hook=make_object)
    except json.JSONDecodeError as error:
        raise UserError(f"{path}:{number}: not valid JSON: {error}") from None
    except (ValueError, RecursionError) as error:  # a number of thousands of digits; thousands of brackets
        raise UserError(f"{path}:{number}: cannot be read as JSON: {error}") from None
    if not isinstance(row, dict):
        raise UserError(f"{path}:{number}: expected {expected}, found {type(row).__name__}")
    return row
