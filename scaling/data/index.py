"""The index of a folder of videos: what each file holds, its caption, and which files cannot be read and why.

An unreadable file is not an error: it is listed with the reason. The manifest is a hash over every candidate file,
readable or not, so it can be computed again without decoding a video (`scaling.data.manifest`).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypedDict

from scaling.core.errors import UserError
from scaling.core.machine import usable_cores
from scaling.core.specs import Spec, parse_spec
from scaling.core.store import read_document, write_document
from scaling.data.captions import file_caption, read_captions
from scaling.data.manifest import candidates, manifest_of, name_of, sha256
from scaling.data.video import UnreadableVideo, inspect
from scaling.data.video_info import VideoInfo

Progress = Callable[[int, int], None]
"""Called with the number of finished files and the number of all files."""


class IndexedFile(Spec):
    """One candidate file. Either `info` or `problem` is set."""

    file: str
    """Path below the folder, with forward slashes."""
    sha256: str
    """Hash of the file's content; empty where the file could not be opened."""
    bytes: int
    caption: str
    info: VideoInfo | None = None
    problem: str | None = None
    """Why the file cannot be read as a video."""


class SkippedFile(TypedDict):
    """A file that cannot be read as a video."""

    file: str
    reason: str


class IndexSummary(TypedDict):
    """What a folder holds, in a few numbers."""

    videos: int
    """Number of readable files."""
    hours: float
    """Duration of the readable files together."""
    shapes: dict[str, int]
    """Number of readable files by size, such as {"64x64": 12}, the most frequent size first."""
    skipped: list[SkippedFile]


class Index(Spec):
    """All candidate files of a folder, in the order of their names."""

    folder: str
    files: tuple[IndexedFile, ...]
    unmatched_captions: int = 0
    """Number of rows of the captions file that name a file that does not exist."""

    @property
    def readable(self) -> list[tuple[IndexedFile, VideoInfo]]:
        """The files that can be read, each with what it holds."""
        return [(file, file.info) for file in self.files if file.info is not None]

    @property
    def skipped(self) -> list[SkippedFile]:
        """The files that cannot be read, with the reasons."""
        return [{"file": file.file, "reason": file.problem} for file in self.files if file.problem is not None]

    @property
    def manifest(self) -> str:
        """16 hex digits over names, contents and captions of all candidate files. See `folder_manifest`."""
        return manifest_of((file.file, file.sha256, file.caption) for file in self.files)

    def summary(self) -> IndexSummary:
        """The numbers that the command line prints."""
        infos = [info for _, info in self.readable]
        shapes = Counter(f"{info.width}x{info.height}" for info in infos)
        return {
            "videos": len(infos),
            "hours": sum(info.duration for info in infos) / 3600,
            "shapes": dict(shapes.most_common()),
            "skipped": self.skipped,
        }

    def save(self, path: Path) -> None:
        write_document(path, self.model_dump(mode="json"))

    @classmethod
    def load(cls, path: Path) -> Index:
        """Raises UserError where the file is missing, broken or not an index."""
        return parse_spec(cls, read_document(path), str(path))


def index_folder(
    folder: Path, captions: Path | None = None, images: bool = False, progress: Progress | None = None
) -> Index:
    """Indexes a folder that holds at least one readable file. See `examine`.

    Raises UserError also where no file can be read.
    """
    index = examine(folder, captions, images, progress)
    if not index.readable:
        first = index.skipped[0]
        raise UserError(
            f"{folder}: none of its {len(index.files)} files can be read as a video; the first one is {first['file']}: "
            f"{first['reason']}"
        )
    return index


def examine(
    folder: Path, captions: Path | None = None, images: bool = False, progress: Progress | None = None
) -> Index:
    """Decodes every candidate file below a folder, which may all be unreadable. With `images`, image files and videos
    of one frame are candidates too. `captions` is as in `read_captions`.

    Raises UserError where the folder is missing, is a file or has no candidates, or where the captions cannot be used.
    """
    paths = candidates(folder, images)
    captions_by_file = read_captions(folder, captions)

    def examine_file(path: Path) -> IndexedFile:
        name = name_of(folder, path)
        file = IndexedFile(
            file=name, sha256=sha256(path), bytes=_size(path), caption=file_caption(name, captions_by_file)
        )
        if name != path.relative_to(folder).as_posix():
            return file.replace(problem="its name is not UTF-8; rename it")
        try:
            return file.replace(info=inspect(path, images))
        except UnreadableVideo as problem:
            return file.replace(problem=str(problem))

    files = []
    with ThreadPoolExecutor(usable_cores()) as pool:  # decoding and hashing release the interpreter's lock
        for file in pool.map(examine_file, paths):
            files.append(file)
            if progress is not None:
                progress(len(files), len(paths))
    unmatched = len(captions_by_file.keys() - {file.file for file in files})
    return Index(folder=str(folder), files=tuple(files), unmatched_captions=unmatched)


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0
