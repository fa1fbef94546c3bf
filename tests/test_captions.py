"""The captions of a user's videos: from a captions file, else from the names of the files. Those of worlds are tested
in test_worlds.py."""

import json
from pathlib import Path

import pytest

from scaling.core.errors import UserError
from scaling.data.index import index_folder
from tests.made_videos import write_three_videos


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder of three readable videos."""
    write_three_videos(tmp_path / "videos")
    return tmp_path / "videos"


@pytest.mark.parametrize("kind", ["csv", "jsonl"])
def test_captions_come_from_a_file_or_else_from_the_name_of_the_video(folder: Path, kind: str) -> None:
    rows = [
        {"file": "c.mp4", "caption": "a ramp, gray"},
        {"file": "deep/b.MP4", "caption": ""},
        {"file": "x", "caption": "y"},
    ]
    if kind == "csv":
        text = "file,caption,note\n" + "".join(f'{row["file"]},"{row["caption"]}",\n' for row in rows)
    else:
        text = "".join(json.dumps(row) + "\n" for row in rows)
    (folder / f"captions.{kind}").write_text(text, encoding="utf-8-sig")
    index = index_folder(folder)
    captions = {file.file: file.caption for file, _ in index.readable}
    assert captions == {"a_red-car.mp4": "a red car", "c.mp4": "a ramp, gray", "deep/b.MP4": "b"}
    assert index.unmatched_captions == 1


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("c.csv", "filename,caption\nc.mp4,x\n", "c.csv:1: no column 'file'; rename 'filename'"),
        ("c.csv", "file,captions\nc.mp4,x\n", "c.csv:1: no column 'caption'; rename 'captions'"),
        ("c.csv", "file,text\nc.mp4,x\n", "c.csv:1: no column 'caption'; it has: file, text"),
        ("c.csv", "", "c.csv: empty"),
        ("c.csv", "file,caption\nc.mp4,x\nc.mp4,y\n", "c.csv:3: a second caption for 'c.mp4'"),
        ("c.csv", "file,caption\nc.mp4\n", "c.csv:2: 'caption' must be text"),
        ("c.jsonl", '{"file": "c.mp4", "caption": 3}\n', "c.jsonl:1: 'caption' must be text"),
        ("c.jsonl", '{"file": "c.mp4", "caption": "x"}\n{"fi\n', "c.jsonl:2: not valid JSON"),
        ("c.jsonl", "[1]\n", "c.jsonl:1: expected an object"),
        ("c.csv", None, "c.csv: no such captions file"),
    ],
)
def test_an_unusable_captions_file_is_a_user_error(folder: Path, name: str, text: str | None, message: str) -> None:
    if text is not None:
        (folder / name).write_text(text)
    with pytest.raises(UserError) as error:
        index_folder(folder, captions=folder / name)
    assert message in str(error.value)
    assert "\n" not in str(error.value)


def test_captions_in_another_encoding_are_refused(folder: Path) -> None:
    (folder / "captions.csv").write_bytes("file,caption\nc.mp4,café\n".encode("latin-1"))
    with pytest.raises(UserError, match=r"captions.csv:2: not in UTF-8 \(byte 0xe9\); save the file as UTF-8"):
        index_folder(folder)
