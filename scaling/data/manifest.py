"""The manifest of a folder of videos: a hash over names, contents and captions of all candidate files. No file is
decoded."""

import hashlib
from collections.abc import Iterable
from pathlib import Path

from scaling.core.identity import digest
from scaling.data.caption_files import read_captions
from scaling.data.captions import file_caption
from scaling.data.folder_files import list_files


def folder_manifest(folder: Path, captions: Path | None = None, images: bool = False) -> str:
    """The manifest that `examine` would give, by hashing alone. Raises the same UserErrors."""
    files = list_files(folder, images)
    caption_of = read_captions(files, captions).by_file
    named = zip(files.names, files.candidates, strict=True)
    return manifest_of((name, sha256(path), file_caption(name, caption_of)) for name, path in named)


def manifest_of(rows: Iterable[tuple[str, str, str]]) -> str:
    """16 hex digits, from (name, hash of the content, caption) of each file."""
    return digest(sorted(rows))


def sha256(path: Path) -> str:
    """Hash of a file's content; empty where the file cannot be opened."""
    try:
        with open(path, "rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError:  # `inspect` fails in the same way and gives the reason
        return ""
