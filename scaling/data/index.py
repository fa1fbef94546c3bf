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
from scaling.data.caption_files import read_captions
from scaling.data.captions import file_caption
from scaling.data.file_versions import size_and_time
from scaling.data.folder_files import count_suffixes, list_files, name_of
from scaling.data.manifest import manifest_of, sha256
from scaling.data.video import UnreadableVideo, inspect
from scaling.data.video_info import VideoInfo

Progress = Callable[[int, int], None]
"""Called with the number of finished files and the number of all files."""


class IndexedFile(Spec):
    """One candidate file. A file with a `problem` is not used."""

    file: str
    """Path below the folder, with forward slashes."""
    sha256: str
    """Hash of the file's content; empty where the file could not be opened."""
    bytes: int
    modified_ns: int = 0
    """Time of the file's last change in nanoseconds."""
    caption: str
    info: VideoInfo | None = None
    """What the video holds, if it can be read."""
    problem: str | None = None
    """Why the file cannot be read as a video, or why no clip can be cut from it."""


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
    captions_without_video: tuple[str, ...] = ()
    """The names in the captions file that no candidate file has."""
    videos_without_caption: tuple[str, ...] = ()
    """The candidate files that have no caption although the folder holds captions; the words of their names serve."""
    other_files: dict[str, int] = {}
    """Number of files that are neither candidates nor captions, by suffix. Hidden files are not counted."""
    unreachable: dict[str, str] = {}
    """Folders that cannot be read and links that lead nowhere, by name, each with the reason."""

    @property
    def unmatched_captions(self) -> int:
        """Number of rows of the captions file that name a file that does not exist."""
        return len(self.captions_without_video)

    @property
    def readable(self) -> list[tuple[IndexedFile, VideoInfo]]:
        """The files that can be read and used, each with what it holds."""
        return [(file, file.info) for file in self.files if file.info is not None and file.problem is None]

    @property
    def skipped(self) -> list[SkippedFile]:
        """The files that cannot be read or used, with the reasons."""
        return [{"file": file.file, "reason": file.problem} for file in self.files if file.problem is not None]

    @property
    def copies(self) -> dict[str, str]:
        """The readable files that have the content of an earlier one, each with the first that has it."""
        firsts: dict[str, str] = {}
        for file, _ in self.readable:
            firsts.setdefault(file.sha256, file.file)
        return {file.file: firsts[file.sha256] for file, _ in self.readable if firsts[file.sha256] != file.file}

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
    listed = list_files(folder, images)
    paths, found = listed.candidates, read_captions(listed, captions)

    def examine_file(path: Path) -> IndexedFile:
        name = name_of(folder, path)
        size, modified_ns = size_and_time(path)  # before the content, so that a later change has another time
        file = IndexedFile(
            file=name,
            sha256=sha256(path),
            bytes=size,
            modified_ns=modified_ns,
            caption=file_caption(name, found.by_file),
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
    return Index(
        folder=str(folder),
        files=tuple(files),
        captions_without_video=found.unmatched,
        videos_without_caption=tuple(name for name in listed.names if found.sources and name not in found.by_file),
        other_files=count_suffixes(path for path in listed.others if path not in found.sources),
        unreachable=listed.unreachable,
    )
