"""State is files. Documents appear whole or not at all; logs only grow, and only their last line may be torn."""

import errno
import json
import os
import re
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from scaling.core.errors import NoSpaceError, UserError

TEMPORARY = re.compile(r"\.(.+)\.\d+\.[0-9a-f]{8}\.tmp(\.\w+)?")
"""Names that `temporary` gives."""
FULL = (errno.ENOSPC, errno.EDQUOT)
"""System errors of a full disk, or of a user's full share of it."""


def write_bytes(path: Path, content: bytes) -> None:
    """Replaces a file atomically: tmp in the same folder, fsync, os.replace, fsync of the folder."""
    with replacing(path) as tmp:
        tmp.write_bytes(content)


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Gives a temporary path to write; on success it replaces `path` durably, on failure it is removed.

    A full disk is the user's to mend: OSError with ENOSPC becomes a UserError that names the file.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    tmp = temporary(path)
    try:
        yield tmp
        sync(tmp)
        os.replace(tmp, path)
        sync(path.parent)
    except OSError as error:
        if error.errno in FULL:
            raise no_space(path) from None
        raise
    finally:
        tmp.unlink(missing_ok=True)


def temporary(path: Path) -> Path:
    """A hidden name beside `path` that nobody else takes; it ends as `path` does, because FFmpeg goes by that."""
    return path.with_name(f".{path.name}.{os.getpid()}.{uuid.uuid4().hex[:8]}.tmp{path.suffix}")


def sweep(folder: Path, spare: str = "") -> None:
    """Removes, at any depth, the temporary files and folders of writers that were killed, but not those of files named
    `spare`. Only for who knows that nobody else writes here: those of living writers go as well."""
    for path in [path for path in folder.rglob(".*") if (left := TEMPORARY.fullmatch(path.name)) and left[1] != spare]:
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)


def no_space(path: Path) -> NoSpaceError:
    """What a full disk is called, everywhere."""
    return NoSpaceError(f"{path}: no space left on the device; free some and run the same command again")


def sync(path: Path) -> None:
    """fsync of a file or a folder."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_document(path: Path, document: Any) -> None:
    """Writes JSON atomically."""
    write_bytes(path, (json.dumps(document, indent=1, allow_nan=False) + "\n").encode())


def read_document(path: Path) -> Any:
    """Reads JSON. Raises UserError where the file is missing or broken."""
    try:
        return json.loads(path.read_text())
    except FileNotFoundError:
        raise UserError(f"{path}: no such file") from None
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: not valid JSON ({error}); remove it and run the same command again") from None


def append_jsonl(path: Path, row: Any) -> None:
    """Appends one line with one write. A file has one writer, so only its last line can ever be torn."""
    try:
        with open(path, "ab") as file:
            file.write(json.dumps(row, allow_nan=False).encode() + b"\n")
    except OSError as error:
        if error.errno in FULL:
            raise no_space(path) from None
        raise


def read_last_jsonl(path: Path, size: int = 8192) -> list[Any]:
    """Reads the whole lines among the last bytes of a log, however long it is; none where it is not there."""
    if not path.exists():
        return []
    with open(path, "rb") as file:
        first = max(0, file.seek(0, os.SEEK_END) - size)
        file.seek(first)
        lines = file.read().split(b"\n")
    rows = []
    for line in lines[1 if first else 0 :]:
        try:
            rows.append(json.loads(line))
        except (json.JSONDecodeError, UnicodeDecodeError):
            continue  # torn, or empty
    return rows


def read_jsonl(path: Path) -> list[Any]:
    """Reads every whole line. A torn last line is left out; a broken line with others after it is a UserError."""
    if not path.exists():
        return []
    lines = path.read_bytes().split(b"\n")
    rows: list[Any] = []
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            rows.append(json.loads(line))
        except (json.JSONDecodeError, UnicodeDecodeError):
            if any(rest.strip() for rest in lines[number:]):
                raise UserError(f"{path}:{number}: broken line in the middle of the file") from None
    return rows
