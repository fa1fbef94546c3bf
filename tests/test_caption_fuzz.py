"""Captions files with random damage: captions, or a mistake in one line that names the file. Never anything else."""

import json
import random
from collections import Counter
from pathlib import Path

import pytest

from scaling.core.errors import UserError
from scaling.data.caption_files import read_captions
from scaling.data.folder_files import FolderFiles

VIDEOS = ("a.mp4", "b c.mp4", "deep/caf\u00e9.mp4", "d,e.mp4", "f.mp4")
CAPTIONS = ("a red ball", 'a "blue" box, still', "un \u00e9t\u00e9", "", "two\nlines", "\U0001f534 moves")
PIECES = (
    b'"',
    b",",
    b"\n",
    b"\r",
    b"\0",
    b"\\",
    b"[",
    b"{",
    b"}",
    b":",
    b"\xff\xfe",
    b"\xe9",
    b"file",
    b"\\ud83d",
    b"9" * 5000,
)


def captions_file(rng: random.Random, kind: str) -> bytes:
    """An undamaged file of a few rows."""
    rows = [(video, rng.choice(CAPTIONS)) for video in rng.sample(VIDEOS, rng.randint(1, len(VIDEOS)))]
    if kind == "jsonl":
        text = "".join(json.dumps({"file": file, "caption": caption}) + "\n" for file, caption in rows)
    else:
        quoted = [[f'"{field.replace(chr(34), 2 * chr(34))}"' for field in row] for row in rows]
        text = "".join(",".join(row) + "\n" for row in [["file", "caption"], *quoted])
    return text.encode(rng.choice(["utf-8", "utf-8-sig", "utf-16"]))


def damaged(rng: random.Random, content: bytes) -> bytes:
    """The content after some bytes are changed, removed, doubled or put in."""
    for _ in range(rng.randint(1, 3)):
        start = rng.randrange(len(content) + 1)
        stop = min(len(content), start + rng.randint(0, 12))
        part = rng.choice([b"", content[start:stop] * 2, rng.choice(PIECES), rng.randbytes(stop - start)])
        content = content[:start] + part + content[stop:]
    return content


def outcome(files: FolderFiles, path: Path) -> tuple[str | None, dict[str, str] | None]:
    """The user's mistake, or else the captions."""
    try:
        return None, read_captions(files, path).by_file
    except UserError as error:
        return str(error), None


@pytest.mark.parametrize("kind", ["csv", "jsonl"])
def test_damaged_captions_files_end_in_captions_or_in_one_line(tmp_path: Path, kind: str) -> None:
    files = FolderFiles(tmp_path, tuple(tmp_path / name for name in VIDEOS), (), {})
    path, ends = tmp_path / f"captions.{kind}", Counter[bool]()
    for seed in range(250):
        rng = random.Random(seed)
        intact = captions_file(rng, kind)
        path.write_bytes(intact)
        assert read_captions(files, path).unmatched == ()
        path.write_bytes(damaged(rng, intact))
        error, captions = outcome(files, path)
        if error is not None:
            assert error.startswith(str(path))
            assert len(error.splitlines()) == 1, error
            assert error.encode()
        ends[captions is not None] += 1
        assert captions is None or captions.keys() <= set(VIDEOS)
    assert min(ends[True], ends[False]) >= 10, ends
