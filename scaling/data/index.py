"""The index of a folder of videos: what each file holds, what is said of it, and which files cannot be read and why.

A broken file is never fatal: it is listed with its reason. The manifest is a hash over every candidate file, broken or
not, so that it can be had again without decoding anything.
"""

from __future__ import annotations

import csv
import hashlib
import json
import os
from collections import Counter
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from scaling.core.errors import UserError
from scaling.core.identity import digest
from scaling.core.specs import Spec, parse_spec
from scaling.core.store import read_document, write_document
from scaling.data.video import UnreadableVideo, VideoInfo, inspect

VIDEO_SUFFIXES = frozenset(
    {".avi", ".flv", ".gif", ".m4v", ".mkv", ".mov", ".mp4", ".mpeg", ".mpg", ".ogv", ".ts", ".webm", ".wmv"}
)
IMAGE_SUFFIXES = frozenset({".bmp", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp"})

Progress = Callable[[int, int], None]
"""Called with how many files are done, and of how many."""


class Entry(Spec):
    """One candidate file: either `info` or `problem` is set."""

    file: str
    """Path below the folder, with forward slashes."""
    sha256: str
    """Of its content; empty where even that could not be read."""
    bytes: int
    caption: str
    info: VideoInfo | None = None
    problem: str | None = None


class Index(Spec):
    """All candidate files of a folder, in the order of their names."""

    folder: str
    files: tuple[Entry, ...]
    unmatched_captions: int = 0
    """Rows of the captions file that name a file which is not there."""

    @property
    def entries(self) -> list[Entry]:
        """The readable files."""
        return [entry for entry in self.files if entry.info is not None]

    @property
    def skipped(self) -> list[dict[str, str]]:
        """The unreadable files: [{file, reason}]."""
        return [{"file": entry.file, "reason": entry.problem} for entry in self.files if entry.problem is not None]

    @property
    def manifest(self) -> str:
        """16 hex digits over names, contents and captions of all candidate files. See `folder_manifest`."""
        return _manifest((entry.file, entry.sha256, entry.caption) for entry in self.files)

    def summary(self) -> dict[str, Any]:
        """{clips: readable files, hours, shapes: {"64x64": count}, skipped: [{file, reason}]}."""
        infos = [entry.info for entry in self.entries if entry.info is not None]
        shapes = Counter(f"{info.width}x{info.height}" for info in infos)
        return {
            "clips": len(infos),
            "hours": sum(info.duration for info in infos) / 3600,
            "shapes": dict(shapes.most_common()),
            "skipped": self.skipped,
        }

    def save(self, path: Path) -> None:
        write_document(path, self.model_dump(mode="json"))

    @classmethod
    def load(cls, path: Path) -> Index:
        """Raises UserError where the file is missing, broken or no index."""
        return parse_spec(cls, read_document(path), str(path))


def index_folder(
    folder: Path, captions: Path | None = None, images: bool = False, progress: Progress | None = None
) -> Index:
    """Indexes a folder of which at least one file can be read. See `examine`.

    Raises UserError also where no file can be read.
    """
    index = examine(folder, captions, images, progress)
    if not index.entries:
        first = index.skipped[0]
        raise UserError(
            f"{folder}: none of its {len(index.files)} files can be read as a video, the first being {first['file']}: "
            f"{first['reason']}"
        )
    return index


def examine(
    folder: Path, captions: Path | None = None, images: bool = False, progress: Progress | None = None
) -> Index:
    """Decodes every candidate file below a folder. `images` also takes image files and videos of one frame.

    Captions come from `captions`, else from captions.csv or captions.jsonl in the folder, else from the file names.
    Raises UserError where the folder is missing, is a file or has no candidates, or where the captions cannot be used.
    """
    paths = _candidates(folder, images)
    given = _captions(folder, captions)

    def look(path: Path) -> Entry:
        file = _name(folder, path)
        entry = Entry(file=file, sha256=_sha256(path), bytes=_size(path), caption=_caption(file, given))
        if file != path.relative_to(folder).as_posix():
            return entry.replace(problem="its name is not UTF-8; rename it")
        try:
            return entry.replace(info=inspect(path, images))
        except UnreadableVideo as problem:
            return entry.replace(problem=str(problem))

    entries = []
    with ThreadPoolExecutor(os.cpu_count()) as pool:  # decoding and hashing both let go of the interpreter's lock
        for entry in pool.map(look, paths):
            entries.append(entry)
            if progress is not None:
                progress(len(entries), len(paths))
    unmatched = len(given.keys() - {entry.file for entry in entries})
    return Index(folder=str(folder), files=tuple(entries), unmatched_captions=unmatched)


def folder_manifest(folder: Path, captions: Path | None = None, images: bool = False) -> str:
    """The manifest that `examine` would give, by hashing alone. Raises the same UserErrors."""
    given = _captions(folder, captions)
    files = [(_name(folder, path), path) for path in _candidates(folder, images)]
    return _manifest((file, _sha256(path), _caption(file, given)) for file, path in files)


def _manifest(rows: Iterable[tuple[str, str, str]]) -> str:
    return digest(sorted(rows))


def _candidates(folder: Path, images: bool) -> list[Path]:
    """Files with a video's suffix, in the order of their names. Hidden ones are left out: they may be half-written."""
    if not folder.exists():
        raise UserError(f"{folder}: no such folder of videos")
    if not folder.is_dir():
        raise UserError(f"{folder}: is a file; give the folder that holds it")
    suffixes = VIDEO_SUFFIXES | IMAGE_SUFFIXES if images else VIDEO_SUFFIXES
    found = [
        path
        for path in folder.rglob("*")
        if path.suffix.lower() in suffixes
        and not any(part.startswith(".") for part in path.relative_to(folder).parts)
        and path.is_file()
    ]
    if not found:
        raise UserError(f"{folder}: no videos in it; files are found by their suffix: {' '.join(sorted(suffixes))}")
    return sorted(found, key=lambda path: _name(folder, path))


def _name(folder: Path, path: Path) -> str:
    """The path below the folder as text; bytes that are not UTF-8 are escaped, because JSON cannot hold them."""
    return os.fsencode(path.relative_to(folder).as_posix()).decode(errors="backslashreplace")


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0


def _sha256(path: Path) -> str:
    try:
        with open(path, "rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError:  # `inspect` meets the same fault and gives it as the reason
        return ""


def _caption(file: str, given: dict[str, str]) -> str:
    """The caption of the file's row, or else its name in words."""
    return given.get(file) or " ".join(Path(file).stem.replace("_", " ").replace("-", " ").split())


def _captions(folder: Path, captions: Path | None) -> dict[str, str]:
    """File -> caption. Raises UserError where a captions file cannot be used."""
    if captions is None:
        captions = next((path for path in (folder / "captions.csv", folder / "captions.jsonl") if path.exists()), None)
        if captions is None:
            return {}
    elif not captions.exists():
        raise UserError(f"{captions}: no such captions file")
    found: dict[str, str] = {}
    for line, row in _rows(captions):
        file, caption = (_column(captions, line, row, name) for name in ("file", "caption"))
        file = Path(file).as_posix()
        if file in found:
            raise UserError(f"{captions}:{line}: a second caption for '{file}'; keep one row for each file")
        found[file] = caption.strip()
    return found


def _rows(path: Path) -> list[tuple[int, dict[str, Any]]]:
    """Line numbers and rows of a CSV or JSONL file."""
    try:
        if path.suffix.lower() == ".jsonl":
            lines = enumerate(path.read_text(encoding="utf-8-sig").split("\n"), start=1)
            return [(number, _object(path, number, line)) for number, line in lines if line.strip()]
        with open(path, encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file)
            if not reader.fieldnames:
                raise UserError(f"{path}: empty; its first line must name the columns 'file' and 'caption'")
            return [(reader.line_num, dict(row)) for row in reader]
    except (UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"{path}: not a CSV or JSONL file in UTF-8: {error}") from None
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {error.strerror}") from None


def _object(path: Path, number: int, line: str) -> dict[str, Any]:
    try:
        row = json.loads(line)
    except json.JSONDecodeError as error:
        raise UserError(f"{path}:{number}: not valid JSON: {error}") from None
    if not isinstance(row, dict):
        raise UserError(f"{path}:{number}: expected an object with 'file' and 'caption', found {type(row).__name__}")
    return row


def _column(path: Path, line: int, row: dict[str, Any], name: str) -> str:
    if name not in row:
        columns = [str(column) for column in row if column is not None]
        near = get_close_matches(name, columns, n=1)
        hint = f"rename '{near[0]}'" if near else f"it has: {', '.join(columns)}"
        raise UserError(f"{path}:{line}: no column '{name}'; {hint}")
    if not isinstance(row[name], str):
        raise UserError(f"{path}:{line}: '{name}' must be text (found {row[name]!r})")
    return str(row[name])
