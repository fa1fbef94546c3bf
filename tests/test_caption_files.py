"""Captions files as people write them: read strictly, or matched as a person would where that leaves one video."""

import json
import unicodedata
from pathlib import Path

import pytest

from scaling.core.errors import UserError
from scaling.data.caption_files import read_captions
from scaling.data.folder_files import list_files
from scaling.data.index import examine
from scaling.data.manifest import folder_manifest

COMPOSED, DECOMPOSED = (unicodedata.normalize(form, "café.mp4") for form in ("NFC", "NFD"))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder of four candidate files, which are not opened when captions are read."""
    for name in ("a.mp4", "b.mp4", "deep/c.mp4", DECOMPOSED):
        (tmp_path / "videos" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "videos" / name).write_bytes(name.encode())
    return tmp_path / "videos"


def captions_of(folder: Path, path: Path | None = None) -> dict[str, str]:
    return read_captions(list_files(folder, images=False), path).by_file


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        (
            "c.csv",
            "file,caption\na.mp4,a ball, red\n",
            "c.csv:2: 3 fields, but the first line names 2 columns; put quot",
        ),
        ("c.csv", 'file,caption\n\na.mp4,x\nb.mp4,"y\n', "c.csv:4: a quote is opened here and never closed"),
        (
            "c.csv",
            'file,caption\na.mp4,"x\nb.mp4,"y"\n',
            "c.csv:2: text follows a closing quote in the row that begins",
        ),
        (
            "c.csv",
            'file,caption\na.mp4,"x\nb.mp4,y"\n',
            "c.csv:2: the caption goes on into line 3, which begins like a",
        ),
        ("c.csv", 'file,caption\n"a.mp4,x\nb.mp4,y\n",z\n', "c.csv:2: the name of the file goes on over a line break"),
        ("c.csv", f'file,caption\na.mp4,"{"x" * 200_000}"\n', "c.csv:2: a field of more than 131072 characters"),
        ("c.csv", "file,caption,caption\na.mp4,x,y\n", "c.csv:1: 2 columns 'caption'; rename or remove all but one"),
        ("c.csv", "file,caption,file\na.mp4,x,y\n", "c.csv:1: 2 columns 'file'; rename or remove all but one"),
        ("c.csv", "file_name,text,caption\na.mp4,x,y\n", "c.csv:1: both columns 'caption' and 'text'; remove one"),
        ("c.csv", "file,caption\n,x\n", "c.csv:2: the name of the file is empty"),
        (
            "c.csv",
            "file,caption\na.mp4,x\n./a.mp4,y\n",
            "c.csv:3: a second caption for 'a.mp4', which has one in c.csv:2",
        ),
        ("c.csv", "file,caption\ndeep/c.mp4,x\ndeep\\c.mp4,y\n", "c.csv:3: a second caption for 'deep/c.mp4'"),
        ("c.csv", "file,caption\ngone.mp4,x\ngone.mp4,y\n", "c.csv:3: a second caption for 'gone.mp4'"),
        ("c.csv", "file,caption\na.mp4,\0x\n", "c.csv: not a text file in UTF-8, because it holds zero bytes"),
        (
            "c.jsonl",
            '[\n{"file": "a.mp4", "caption": "x"}\n]\n',
            "c.jsonl:1: expected an object with 'file' and 'captio",
        ),
        (
            "c.jsonl",
            '\n[{"file": "a.mp4", "caption": "x"}]',
            "c.jsonl:2: expected an object with 'file' and 'caption' on",
        ),
        ("c.json", '[{"file": "a.mp4", "caption": "x"}]', "write one object on each line, without brackets and commas"),
        (
            "c.jsonl",
            '{"file": "a.mp4", "caption": "x", "caption": "y"}',
            "c.jsonl:1: 'caption' is given twice; keep one",
        ),
        (
            "c.jsonl",
            '{"file": "a.mp4", "caption": "\\ud83d!"}',
            "c.jsonl:1: 'caption' holds '\\ud83d', one half of a ch",
        ),
        (
            "c.jsonl",
            '{"file": "\\udc00.mp4", "caption": "x"}',
            "c.jsonl:1: 'file' holds '\\udc00', one half of a charac",
        ),
        ("c.jsonl", "[" * 100_000, "c.jsonl:1: expected an object"),
        ("c.jsonl", '{"file": ' + "[" * 100_000, "c.jsonl:1: cannot be read as JSON"),
        ("c.jsonl", '{"file": "a.mp4", "caption": ' + "1" * 5000 + "}", "c.jsonl:1: cannot be read as JSON"),
    ],
)
def test_a_mistake_is_named_with_its_line_and_the_way_out(folder: Path, name: str, text: str, message: str) -> None:
    (folder / name).write_text(text)
    with pytest.raises(UserError) as error:
        captions_of(folder, folder / name)
    assert message in str(error.value)
    assert "\n" not in str(error.value)


def test_two_captions_files_are_refused_unless_one_is_named(folder: Path) -> None:
    (folder / "captions.csv").write_text("file,caption\na.mp4,x\n")
    (folder / "captions.jsonl").write_text('{"file": "a.mp4", "caption": "y"}')
    with pytest.raises(
        UserError, match=r"captions.csv: a second captions file, captions.jsonl, is beside it; .*--captions"
    ):
        captions_of(folder)
    assert captions_of(folder, folder / "captions.jsonl") == {"a.mp4": "y"}


@pytest.mark.parametrize(
    "written", ["./deep/c.mp4", "deep\\c.mp4", ".\\deep\\c.mp4", "deep//c.mp4", " deep/c.mp4 ", "videos/deep/c.mp4"]
)
def test_a_name_is_matched_as_a_person_would(folder: Path, written: str) -> None:
    (folder / "captions.jsonl").write_text(json.dumps({"file": written, "caption": "x"}))
    assert captions_of(folder) == {"deep/c.mp4": "x"}


def test_the_name_of_the_folder_is_that_of_a_folder_in_it_first(folder: Path) -> None:
    (folder / "videos").mkdir()
    (folder / "videos" / "a.mp4").write_bytes(b"")
    (folder / "captions.csv").write_text("file,caption\nvideos/a.mp4,x\nvideos\\b.mp4,y\n")
    assert captions_of(folder) == {"videos/a.mp4": "x", "b.mp4": "y"}


def test_absolute_paths_below_the_folder_are_matched(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder.parent / "link").symlink_to(folder)
    (folder / "captions.csv").write_text(
        f"file,caption\n{folder}/deep/c.mp4,x\n{folder.parent}/a.mp4,elsewhere\n{folder.parent}/link/b.mp4,y\n"
    )
    found = read_captions(list_files(folder.parent / "link", images=False), None)
    assert found.by_file == {"deep/c.mp4": "x", "b.mp4": "y"}
    assert found.unmatched == (f"{folder.parent}/a.mp4",)
    monkeypatch.chdir(folder.parent)
    assert captions_of(Path("videos")) == {"deep/c.mp4": "x"}


def test_composed_and_decomposed_letters_are_one_name(folder: Path) -> None:
    (folder / "captions.csv").write_text(f"file,caption\n{COMPOSED},a place\n")
    assert captions_of(folder) == {DECOMPOSED: "a place"}
    (folder / COMPOSED).write_bytes(b"")  # now there are two files, and each name means its own
    assert captions_of(folder) == {COMPOSED: "a place"}
    (folder / "captions.csv").write_text(f"file,caption\n.\\{COMPOSED},a place\n")
    with pytest.raises(UserError, match=r"captions.csv:2: .* can mean"):
        captions_of(folder)


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-32"])
@pytest.mark.parametrize("separator", [",", ";", "\t"])
def test_encodings_with_their_mark_and_separators_are_read(folder: Path, encoding: str, separator: str) -> None:
    rows = [("file", "caption"), ("a.mp4", '"un été, \n\nlong"'), ("", ""), ("b.mp4", 'the ""red"" ball')]
    (folder / "captions.csv").write_text("\r\n".join(map(separator.join, rows)), encoding=encoding, newline="")
    assert captions_of(folder) == {"a.mp4": "un été, \n\nlong", "b.mp4": 'the ""red"" ball'}


def test_the_text_file_beside_a_video_is_its_caption(folder: Path) -> None:
    (folder / "a.txt").write_text("a ball\nand a box\n", encoding="utf-8-sig")
    (folder / "deep" / "c.TXT").write_text("a ramp", encoding="utf-16")
    (folder / "notes.txt").write_text("to do")
    (folder / "captions.csv").write_text("file,caption\nb.mp4,a cloud\na.mp4,from the table\n")
    assert captions_of(folder) == {"a.mp4": "from the table", "b.mp4": "a cloud", "deep/c.mp4": "a ramp"}
    (folder / "captions.csv").unlink()
    assert captions_of(folder) == {"a.mp4": "a ball and a box", "deep/c.mp4": "a ramp"}
    index = examine(folder)
    assert {file.file: file.caption for file in index.files}["a.mp4"] == "a ball and a box"
    assert index.videos_without_caption == ("b.mp4", DECOMPOSED)
    assert index.other_files == {".txt": 1}  # the notes
    assert folder_manifest(folder) == index.manifest


@pytest.mark.parametrize("column", ["text", "caption"])
def test_the_metadata_of_hugging_face_is_read_in_every_folder(folder: Path, column: str) -> None:
    (folder / "metadata.csv").write_text(f"file_name,{column}\na.mp4,x\n")
    (folder / "deep" / "metadata.jsonl").write_text(json.dumps({"file_name": "c.mp4", column: "y"}))
    assert captions_of(folder) == {"a.mp4": "x", "deep/c.mp4": "y"}
    (folder / "metadata.csv").write_text("file_name,label\na.mp4,3\n")  # which holds no captions
    assert captions_of(folder) == {"deep/c.mp4": "y"}
    assert examine(folder).other_files == {".csv": 1}


def test_videos_without_a_caption_are_named_only_where_there_are_captions(folder: Path) -> None:
    assert examine(folder).videos_without_caption == ()
    (folder / "captions.csv").write_text("file,caption\na.mp4,x\nb.mp4,\ngone.mp4,y\n")
    index = examine(folder)
    assert index.videos_without_caption == ("b.mp4", DECOMPOSED, "deep/c.mp4")
    assert index.captions_without_video == ("gone.mp4",)
