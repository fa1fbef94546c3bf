"""What a caption is: the sentence that describes a video. Text only: `scaling.text` turns captions into tensors.

The caption of a procedural world names its objects and says what happens to them. The caption of a user's video comes
from a captions file or, without one, from the name of the video file. Every clip has the caption of its whole video.
"""

import csv
from collections.abc import Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING, Any

from scaling.core.errors import UserError
from scaling.data.json_lines import json_object

if TYPE_CHECKING:
    from scaling.data.physics import Body


def world_caption(bodies: Sequence["Body"], *, moving: bool, gravity: bool, interacted: bool, layered: bool) -> str:
    """Describes what a world shows and nothing else. An image, which is not `moving`, has only its objects named.

    `interacted`: two objects collided or, in a `layered` world, the front object covered the rear one.
    """
    if not moving:
        return _object_names(bodies)
    where = "under gravity" if gravity else "without gravity"
    if layered and interacted:
        return f"{_object_names(bodies[:1])} passes in front of {_object_names(bodies[1:])} {where}"
    undisturbed = ("bounce" if gravity else "drift") + ("s" if len(bodies) == 1 else "")
    verb = "collide" if interacted else undisturbed
    return f"{_object_names(bodies)} {verb} {where}"


def file_caption(file: str, captions: dict[str, str]) -> str:
    """The caption of a user's video, by its path below the folder: from `captions`, or else the words of its name."""
    return captions.get(file) or " ".join(Path(file).stem.replace("_", " ").replace("-", " ").split())


def read_captions(folder: Path, path: Path | None) -> dict[str, str]:
    """File -> caption, from a CSV or JSONL file with the columns `file` and `caption`. Without a path, captions.csv or
    captions.jsonl in the folder is read if there is one.

    Raises UserError where a captions file cannot be used.
    """
    if path is None:
        path = next((name for name in (folder / "captions.csv", folder / "captions.jsonl") if name.exists()), None)
        if path is None:
            return {}
    elif not path.exists():
        raise UserError(f"{path}: no such captions file")
    captions: dict[str, str] = {}
    for line, row in _rows(path):
        file, caption = (_column(path, line, row, name) for name in ("file", "caption"))
        file = Path(file).as_posix()
        if file in captions:
            raise UserError(f"{path}:{line}: a second caption for '{file}'; keep one row for each file")
        captions[file] = caption.strip()
    return captions


def _object_names(bodies: Sequence["Body"]) -> str:
    """The objects with their colors, such as `a red ball and a blue box`."""
    *others, last = [f"a {body.color} {body.shape}" for body in bodies]
    return f"{', '.join(others)} and {last}" if others else last


def _rows(path: Path) -> list[tuple[int, dict[str, Any]]]:
    """The line numbers and rows of a CSV or JSONL file."""
    try:
        if path.suffix.lower() == ".jsonl":
            lines = enumerate(path.read_text(encoding="utf-8-sig").split("\n"), start=1)
            return [
                (number, json_object(path, number, line, "an object with 'file' and 'caption'"))
                for number, line in lines
                if line.strip()
            ]
        with open(path, encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file)
            if not reader.fieldnames:
                raise UserError(f"{path}: empty; its first line must name the columns 'file' and 'caption'")
            return [(reader.line_num, dict(row)) for row in reader]
    except (UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"{path}: not a CSV or JSONL file in UTF-8: {error}") from None
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {error.strerror}") from None


def _column(path: Path, line: int, row: dict[str, Any], name: str) -> str:
    if name not in row:
        columns = [str(column) for column in row if column is not None]
        similar = get_close_matches(name, columns, n=1)
        hint = f"rename '{similar[0]}'" if similar else f"it has: {', '.join(columns)}"
        raise UserError(f"{path}:{line}: no column '{name}'; {hint}")
    if not isinstance(row[name], str):
        raise UserError(f"{path}:{line}: '{name}' must be text (found {row[name]!r})")
    return str(row[name])
