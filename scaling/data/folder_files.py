"""What lies below a folder of videos: the candidate files, the other files, and what cannot be reached.

Files are found by their suffix; none is opened. Hidden files are ignored, because they may be half-written. Links to
folders are followed, and a folder is listed once, whatever links to it, so that links in a circle end.
"""

import os
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from heapq import heappop, heappush
from pathlib import Path

from scaling.core.errors import UserError

VIDEO_SUFFIXES = frozenset(
    {".3g2", ".3gp", ".apng", ".avi", ".flv", ".gif", ".m2ts", ".m4v", ".mkv", ".mov", ".mp4", ".mpeg", ".mpg", ".mts"}
    | {".mxf", ".ogv", ".ts", ".vob", ".webm", ".wmv", ".y4m"}
)
IMAGE_SUFFIXES = frozenset({".avif", ".bmp", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp"})


@dataclass(frozen=True)
class FolderFiles:
    """The files below a folder."""

    folder: Path
    candidates: tuple[Path, ...]
    """Files with a video's suffix, in the order of their names."""
    others: tuple[Path, ...]
    """All other files that are not hidden, in no order."""
    unreachable: dict[str, str]
    """Folders that cannot be read and candidates that are not files, by name, each with the reason."""

    @property
    def names(self) -> list[str]:
        """The names of the candidates, in their order."""
        return [name_of(self.folder, path) for path in self.candidates]


def list_files(folder: Path, images: bool) -> FolderFiles:
    """Lists a folder with all folders below it. With `images`, image files are candidates too.

    Raises UserError where the folder is missing, is a file, cannot be read or has no candidates.
    """
    if not folder.exists():
        raise UserError(f"{folder}: no such folder of videos")
    if not folder.is_dir():
        raise UserError(f"{folder}: is a file; give the folder that holds it")
    suffixes = VIDEO_SUFFIXES | IMAGE_SUFFIXES if images else VIDEO_SUFFIXES
    walk = _Walk(folder, suffixes)
    walk.run()
    candidates = [path for path in walk.files if path.suffix.lower() in suffixes]
    others = tuple(path for path in walk.files if path.suffix.lower() not in suffixes)
    if not candidates:
        found = ", ".join(f"{count} {suffix}" for suffix, count in list(count_suffixes(others).items())[:3])
        unread = "".join(f"; {name}: {reason}" for name, reason in list(walk.unreachable.items())[:1])
        raise UserError(
            f"{folder}: no videos in it{f' but {found}' if found else ''}; files are found by their suffix: "
            f"{' '.join(sorted(suffixes))}{unread}"
        )
    candidates.sort(key=lambda path: name_of(folder, path))
    return FolderFiles(folder, tuple(candidates), others, dict(sorted(walk.unreachable.items())))


def name_of(folder: Path, path: Path) -> str:
    """The path below the folder as text. Bytes that are not UTF-8 are escaped, because JSON cannot hold them."""
    return os.fsencode(path.relative_to(folder).as_posix()).decode(errors="backslashreplace")


def count_suffixes(paths: Iterable[Path]) -> dict[str, int]:
    """The number of files by suffix in lower case, the most frequent first."""
    counts = Counter(os.fsencode(path.suffix.lower()).decode(errors="backslashreplace") for path in paths)
    return {suffix or "without suffix": count for suffix, count in sorted(counts.items(), key=lambda c: (-c[1], c[0]))}


class _Walk:
    """A walk through a folder and all folders below it. Folders come before the links to them, so a file that can be
    reached in both ways has its own name."""

    def __init__(self, folder: Path, suffixes: frozenset[str]) -> None:
        self.folder, self.suffixes = folder, suffixes
        self.files: list[Path] = []
        self.unreachable: dict[str, str] = {}
        self._folders, self._links = [folder], list[Path]()

    def run(self) -> None:
        """Fills `files` and `unreachable`. Raises UserError where the folder itself cannot be read."""
        top = os.path.realpath(self.folder)
        listed: set[str] = set()
        while self._folders or self._links:
            current = self._folders.pop() if self._folders else heappop(self._links)
            place = os.path.realpath(current)
            if place in listed:
                continue
            listed.add(place)
            if place != top and Path(top).is_relative_to(place):
                self._leave_out(current, "a link to a folder that holds the folder of videos")
                continue
            try:
                with os.scandir(current) as entries:
                    for entry in entries:
                        if not entry.name.startswith("."):
                            self._take(entry)
            except OSError as error:
                if current == self.folder:
                    raise UserError(f"{self.folder}: cannot be read: {error.strerror}") from None
                self._leave_out(current, f"cannot be read: {error.strerror}")

    def _take(self, entry: os.DirEntry[str]) -> None:
        path = Path(entry.path)
        try:
            if entry.is_file():
                self.files.append(path)
            elif not entry.is_dir():
                if path.suffix.lower() in self.suffixes:
                    self._leave_out(path, "a link to nothing" if entry.is_symlink() else "not a file, such as a pipe")
            elif entry.is_symlink():
                heappush(self._links, path)
            else:
                self._folders.append(path)
        except OSError as error:
            self._leave_out(path, f"cannot be read: {error.strerror}")

    def _leave_out(self, path: Path, reason: str) -> None:
        self.unreachable[name_of(self.folder, path)] = reason
