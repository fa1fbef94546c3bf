"""The manifest of a folder of videos: a hash over names, contents and captions of all candidate files. No file is
decoded."""

import hashlib
import os
from collections.abc import Iterable
from pathlib import Path

from scaling.core.errors import UserError
from scaling.core.identity import digest
from scaling.data.captions import file_caption, read_captions

VIDEO_SUFFIXES = frozenset(
    {".avi", ".flv", ".gif", ".m4v", ".mkv", ".mov", ".mp4", ".mpeg", ".mpg", ".ogv", ".ts", ".webm", ".wmv"}
)
IMAGE_SUFFIXES = frozenset({".bmp", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp"})


def folder_manifest(folder: Path, captions: Path | None = None, images: bool = False) -> str:
    """The manifest that `examine` would give, by hashing alone. Raises the same UserErrors."""
    captions_by_file = read_captions(folder, captions)
    files = [(name_of(folder, path), path) for path in candidates(folder, images)]
    return manifest_of((name, sha256(path), file_caption(name, captions_by_file)) for name, path in files)


def manifest_of(rows: Iterable[tuple[str, str, str]]) -> str:
    """16 hex digits, from (name, hash of the content, caption) of each file."""
    return digest(sorted(rows))


def candidates(folder: Path, images: bool) -> list[Path]:
    """Files with a video's suffix, in the order of their names. Hidden files are not candidates, because they may be
    half-written."""
    if not folder.exists():
        raise UserError(f"{folder}: no such folder of videos")
    if not folder.is_dir():
        raise UserError(f"{folder}: is a file; give the folder that holds it")
    suffixes = VIDEO_SUFFIXES | IMAGE_SUFFIXES if images else VIDEO_SUFFIXES
    paths = [
        path
        for path in folder.rglob("*")
        if path.suffix.lower() in suffixes
        and not any(part.startswith(".") for part in path.relative_to(folder).parts)
        and path.is_file()
    ]
    if not paths:
        raise UserError(f"{folder}: no videos in it; files are found by their suffix: {' '.join(sorted(suffixes))}")
    return sorted(paths, key=lambda path: name_of(folder, path))


def name_of(folder: Path, path: Path) -> str:
    """The path below the folder as text. Bytes that are not UTF-8 are escaped, because JSON cannot hold them."""
    return os.fsencode(path.relative_to(folder).as_posix()).decode(errors="backslashreplace")


def sha256(path: Path) -> str:
    """Hash of a file's content; empty where the file cannot be opened."""
    try:
        with open(path, "rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError:  # `inspect` fails in the same way and gives the reason
        return ""
