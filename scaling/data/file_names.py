"""Which video a name in a captions file means.

A name means the video that is called so. Where there is none, it is read as a person would read it, if that leaves one
video: with slashes for backslashes, without the folder that an absolute path or one from beside the folder begins with,
and with accented letters composed (NFC), which some systems decompose (NFD).
"""

import unicodedata
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path, PurePosixPath


class FileNames:
    """The names of the videos below a folder."""

    def __init__(self, folder: Path, names: Sequence[str]) -> None:
        self._folder, self._names = folder, frozenset(names)

    def meant(self, written: str) -> list[str]:
        """The videos that a name can mean: one, none, or several."""
        if written in self._names:
            return [written]
        if (plain := PurePosixPath(written).as_posix()) in self._names:
            return [plain]
        return self._by_key.get(_composed(written.strip())) or self._by_key.get(self.key(written), [])

    def key(self, written: str) -> str:
        """One text for all ways to write a name."""
        key = _composed(written.strip())
        root = next((root for root in self._roots if key.startswith(root)), "")
        return key.removeprefix(root)

    @cached_property
    def _by_key(self) -> dict[str, list[str]]:
        by_key: dict[str, list[str]] = {}
        for name in sorted(self._names):
            by_key.setdefault(_composed(name), []).append(name)
        return by_key

    @cached_property
    def _roots(self) -> list[str]:
        """What names below the folder can begin with: the folder by its own path and by that of a link to it, or its
        name alone."""
        folders = self._folder.absolute(), self._folder.resolve()
        starts = [*map(str, folders), *(folder.name for folder in folders)]
        return [f"{_composed(start).rstrip('/')}/" for start in starts]


def _composed(name: str) -> str:
    return unicodedata.normalize("NFC", PurePosixPath(name.replace("\\", "/")).as_posix())
