"""The captions of a user's folder of videos: which files hold them, and which video each caption belongs to.

Captions are in a file that the user names. Without one they are in `captions.csv` or `captions.jsonl` in the folder, or
in `metadata.csv` or `metadata.jsonl` with a column `file_name` in any folder below it, as in data sets of Hugging Face;
a video that has none there takes the text of the `.txt` file of its own name beside it.
"""

import re
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from scaling.core.errors import UserError
from scaling.data.caption_rows import JSON_SUFFIXES, CaptionRow, caption_rows, read_text
from scaling.data.file_names import FileNames
from scaling.data.folder_files import FolderFiles, name_of

METADATA = ("metadata.csv", "metadata.jsonl")


@dataclass(frozen=True)
class FolderCaptions:
    """The captions of the videos of one folder."""

    by_file: dict[str, str]
    """File -> caption, of the videos that have one."""
    unmatched: tuple[str, ...]
    """The names in rows that belong to no video."""
    sources: frozenset[Path]
    """The files that the captions come from."""


def read_captions(files: FolderFiles, path: Path | None) -> FolderCaptions:
    """Reads the captions file `path` or, without one, what the folder holds.

    Raises UserError where a captions file cannot be used.
    """
    if path is not None and not path.exists():
        raise UserError(f"{path}: no such captions file")
    names = FileNames(files.folder, files.names)
    tables = [path] if path is not None else _tables(files)
    by_file: dict[str, str] = {}
    unmatched: list[str] = []
    rows_by_video: dict[str, str] = {}
    for table in tables:
        below = "" if path is not None or table.parent == files.folder else name_of(files.folder, table.parent) + "/"
        for row in caption_rows(table):
            video = _video(table, row, names, below)
            key = video or names.key(below + row.file)
            if key in rows_by_video:
                raise UserError(
                    f"{table}:{row.line}: a second caption for {key!r}, which has one in {rows_by_video[key]}; keep "
                    "one row for each file"
                )
            rows_by_video[key] = f"{table.name}:{row.line}"
            if video is None:
                unmatched.append(row.file)
            elif row.caption.strip():
                by_file[video] = row.caption.strip()
    sources = set(tables)
    if path is None:
        for name, text_file in _texts(files):
            if name not in by_file and (caption := " ".join(read_text(text_file).split())):
                by_file[name] = caption
                sources.add(text_file)
    return FolderCaptions(by_file, tuple(unmatched), frozenset(sources))


def _tables(files: FolderFiles) -> list[Path]:
    """The captions files of a folder. Raises UserError where one folder holds two."""
    folder = files.folder
    by_folder: dict[Path, list[Path]] = defaultdict(list)
    for path in sorted(files.others):
        own = path.parent == folder and path.name in ("captions.csv", "captions.jsonl")
        if own or (path.name in METADATA and _names_captions(path)):
            by_folder[path.parent].append(path)
    for paths in by_folder.values():
        if len(paths) > 1:
            raise UserError(
                f"{paths[0]}: a second captions file, {paths[1].name}, is beside it; remove one, or name the one to "
                "use (--captions, or 'captions' in a sweep's data)"
            )
    return [path for paths in by_folder.values() for path in paths]


def _names_captions(path: Path) -> bool:
    """Whether the first line of a metadata file names the columns of files and captions. Others are not about them."""
    try:
        with open(path, "rb") as file:
            first = file.readline(65536).replace(b"\0", b"")  # UTF-16
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {error.strerror}") from None
    return bool(re.search(rb"\bfile_name\b", first) and re.search(rb"\b(caption|text)\b", first))


def _texts(files: FolderFiles) -> Iterator[tuple[str, Path]]:
    """Each video that has a text file of its own name beside it, with that file."""
    texts = {path.with_suffix(""): path for path in files.others if path.suffix.lower() == ".txt"}
    for video in files.candidates if texts else ():
        if (text := texts.get(video.with_suffix(""))) is not None:
            yield name_of(files.folder, video), text


def _video(table: Path, row: CaptionRow, names: FileNames, below: str) -> str | None:
    """The name of the video that a row is about. `below` is the folder from which its name counts.

    Raises UserError where the name can mean several, or where the row has swallowed others through an open quote.
    """
    if not row.file.strip():
        raise UserError(f"{table}:{row.line}: the name of the file is empty")
    meant = names.meant(below + row.file) or names.meant(row.file)
    if len(meant) > 1:
        raise UserError(f"{table}:{row.line}: {row.file!r} can mean {meant[0]!r} or {meant[1]!r}; rename one of them")
    if not meant and "\n" in row.file:
        raise UserError(f"{table}:{row.line}: the name of the file goes on over a line break; close its quote")
    continued = [] if table.suffix.lower() in JSON_SUFFIXES else row.caption.split("\n")[1:]
    for number, line in enumerate(continued, start=row.line + 1):
        first, *others = re.split("[,;\t]", line, maxsplit=1)
        if others and names.meant(below + first.strip('"')):
            raise UserError(
                f"{table}:{row.line}: the caption goes on into line {number}, which begins like a row of its own; "
                "close its quote"
            )
    return meant[0] if meant else None
