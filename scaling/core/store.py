"""Reading and writing the files that hold all state: JSON documents, which are replaced as a whole, and logs of JSON
lines, which only grow and of which only the last line can be incomplete."""

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
"""The names that `temporary` gives."""
FULL = (errno.ENOSPC, errno.EDQUOT)
"""The system's error numbers for a full disk and for a user's exhausted quota."""


def write_bytes(path: Path, content: bytes) -> None:
    """Replaces a file atomically: writes a temporary file in the same folder, fsync, os.replace, fsync of the
    folder."""
    with replacing(path) as tmp:
        tmp.write_bytes(content)


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yields a temporary path to write. On success that file replaces `path` durably; on failure it is removed.

    Raises NoSpaceError, which names the file, where the disk is full.
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
    """A hidden name in the folder of `path` that no other process uses. It has the suffix of `path`, because FFmpeg
    chooses the format by the suffix."""
    return path.with_name(f".{path.name}.{os.getpid()}.{uuid.uuid4().hex[:8]}.tmp{path.suffix}")


def remove_temporary_files(folder: Path, keep: str = "") -> None:
    """Removes the temporary files and folders of killed writers, at any depth, but not those of files named `keep`.
    Must be called only while no other process writes in the folder, because it removes the files of living writers
    too."""
    matches = [(path, TEMPORARY.fullmatch(path.name)) for path in folder.rglob(".*")]
    for path in [path for path, match in matches if match and match[1] != keep]:
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)


def no_space(path: Path) -> NoSpaceError:
    """The error for a full disk."""
    return NoSpaceError(f"{path}: no space left on the device; free some space and run the same command again")


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
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(f"{path}: no such file") from None
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: not valid JSON ({error}); remove it and run the same command again") from None


def append_jsonl(path: Path, row: Any) -> None:
    """Appends one line with one write. A file has one writer, so only its last line can be incomplete."""
    try:
        with open(path, "ab") as file:
            file.write(json.dumps(row, allow_nan=False).encode() + b"\n")
    except OSError as error:
        if error.errno in FULL:
            raise no_space(path) from None
        raise


def read_last_jsonl(path: Path, size: int = 8192) -> list[Any]:
    """Reads the complete lines among the last `size` bytes of a log; none where the file does not exist."""
    if not path.exists():
        return []
    with open(path, "rb") as file:
        start = max(0, file.seek(0, os.SEEK_END) - size)
        file.seek(start)
        lines = file.read().split(b"\n")
    rows = []
    for line in lines[1 if start else 0 :]:
        try:
            rows.append(json.loads(line))
        except (json.JSONDecodeError, UnicodeDecodeError):
            continue  # incomplete or empty
    return rows


def read_jsonl(path: Path) -> list[Any]:
    """Reads every complete line. Skips an incomplete last line; raises UserError where a broken line has others after
    it."""
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
            if any(later_line.strip() for later_line in lines[number:]):
                raise UserError(f"{path}:{number}: broken line in the middle of the file") from None
    return rows
