"""One line of a JSONL file as an object, with an error that names the file and the line."""

import json
from pathlib import Path
from typing import Any

from scaling.core.errors import UserError


def json_object(path: Path, number: int, line: str, expected: str = "an object") -> dict[str, Any]:
    """The object in line `number` of a file. Raises UserError where the line holds something else."""
    try:
        row = json.loads(line)
    except json.JSONDecodeError as error:
        raise UserError(f"{path}:{number}: not valid JSON: {error}") from None
    if not isinstance(row, dict):
        raise UserError(f"{path}:{number}: expected {expected}, found {type(row).__name__}")
    return row
