"""clips.jsonl: every clip of a data set, and which clips are held out. The `data` stage writes it; all others read it.

The first line is {"manifest": the manifest of the videos, "clips": the number of clips}. Each further line is a clip:

    {"file": "videos/000000.mp4", "first_frame": 0, "frames": 17, "fps": 8.0, "width": 64, "height": 64,
     "caption": "a red ball bounces under gravity", "ordinal": 0, "held_out": false}

`file` is a path below the folder of videos. The types of a row are checked here and not by pydantic, because a list may
hold a million clips: `ClipList.read` takes 5 s for them on one core of an AMD EPYC, and 0.5 GB of memory.
"""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from types import MappingProxyType
from typing import Any

from scaling.core.errors import UserError
from scaling.core.store import replacing
from scaling.data.clips import Clip
from scaling.data.file_versions import FileVersion
from scaling.data.json_lines import json_object

FIELDS = {
    "file": str,
    "first_frame": int,
    "frames": int,
    "fps": float,
    "width": int,
    "height": int,
    "caption": str,
    "ordinal": int,
    "held_out": bool,
}
"""The fields of a row and their types."""
NOT_CHECKED: Mapping[str, FileVersion] = MappingProxyType({})
"""Versions for files that nobody replaces, because a stage has made them."""
_NAMES, _TYPES = list(FIELDS), list(FIELDS.values())


@dataclass(frozen=True)
class ClipList:
    """All clips of a data set, in the order of their ordinals."""

    videos: Path
    """The folder of the video files."""
    manifest: str
    """Hash of the names, contents and captions of the video files."""
    clips: list[Clip]
    held_out_ordinals: frozenset[int]

    @cached_property
    def training(self) -> list[Clip]:
        """The clips that models are trained on, in their order."""
        return [clip for clip in self.clips if clip.ordinal not in self.held_out_ordinals]

    @cached_property
    def held_out(self) -> list[Clip]:
        """The clips that models are measured on, in their order."""
        return [clip for clip in self.clips if clip.ordinal in self.held_out_ordinals]

    def write(self, path: Path) -> None:
        """Writes the document; it appears whole or not at all. Raises UserError if the disk is full."""
        with replacing(path) as tmp, open(tmp, "w") as file:
            file.write(json.dumps({"manifest": self.manifest, "clips": len(self.clips)}) + "\n")
            for clip in self.clips:
                row = {
                    "file": clip.path.relative_to(self.videos).as_posix(),
                    "first_frame": clip.first_frame,
                    "frames": clip.frames,
                    "fps": clip.fps,
                    "width": clip.width,
                    "height": clip.height,
                    "caption": clip.caption,
                    "ordinal": clip.ordinal,
                    "held_out": clip.ordinal in self.held_out_ordinals,
                }
                file.write(json.dumps(row) + "\n")

    @classmethod
    def read(cls, path: Path, videos: Path, versions: Mapping[str, FileVersion] = NOT_CHECKED) -> "ClipList":
        """Reads the document. `videos` is the folder of the video files, which may have moved since it was written;
        `versions` has what the files were then, of those that are to be checked when they are read.

        Raises UserError where the document is missing or is not a list of clips.
        """
        try:
            with open(path, encoding="utf-8") as file:
                lines = enumerate(file, start=1)
                header = _header(path, next(lines, (1, ""))[1])
                clips, held_out = _read_rows(path, videos, versions, lines)
        except FileNotFoundError:
            raise UserError(f"{path}: no such file; the data stage writes it") from None
        except UnicodeDecodeError as error:
            raise UserError(f"{path}: not in UTF-8: {error}") from None
        if len(clips) != header["clips"]:
            raise UserError(f"{path}: holds {len(clips)} clips, but its first line says {header['clips']}")
        return cls(videos, header["manifest"], clips, frozenset(held_out))


def _read_rows(
    path: Path, videos: Path, versions: Mapping[str, FileVersion], lines: Iterator[tuple[int, str]]
) -> tuple[list[Clip], set[int]]:
    """The clips of all rows, and the ordinals of the held-out clips."""
    clips: list[Clip] = []
    held_out: set[int] = set()
    last_file, video, version = "", videos, None  # rows of one file follow each other, and making a path is slow
    for number, line in lines:
        file, first_frame, frames, fps, width, height, caption, ordinal, is_held_out = _row(path, number, line)
        if ordinal != len(clips):
            raise UserError(f"{path}:{number}: 'ordinal' is {ordinal}, but {len(clips)} clips come before it")
        if file != last_file:
            last_file, video, version = file, videos / file, versions.get(file)
        clips.append(Clip(video, first_frame, frames, fps, height, width, caption, ordinal, version))
        if is_held_out:
            held_out.add(ordinal)
    return clips, held_out


def _row(path: Path, number: int, line: str) -> list[Any]:
    """The values of a row in the order of FIELDS, each of its type."""
    row = json_object(path, number, line)
    if list(row) == _NAMES:
        values = list(row.values())
        if [type(value) for value in values] == _TYPES:
            return values
    for name, kind in FIELDS.items():
        if type(row.get(name)) is not kind:
            raise UserError(f"{path}:{number}: '{name}' must be {kind.__name__} (found {row.get(name)!r})")
    raise UserError(f"{path}:{number}: expected the fields {', '.join(FIELDS)}, found {', '.join(row)}")


def _header(path: Path, line: str) -> dict[str, Any]:
    header = json_object(path, 1, line)
    if type(header.get("manifest")) is not str or type(header.get("clips")) is not int:
        raise UserError(f"{path}:1: expected 'manifest' and 'clips', the number of clips, found {header!r}")
    return header
