"""clips.jsonl holds every clip of a data set; a document that is damaged or of another form is refused."""

import json
from pathlib import Path

import pytest

from scaling.core.errors import UserError
from scaling.core.specs import DataSpec, WorldSpec
from scaling.core.stage import Stage
from scaling.core.stage_fields import DataFields
from scaling.core.stage_folder import StageFolder
from scaling.data.clip_list import ClipList
from scaling.data.clips import Clip, cut_clips
from scaling.data.holdout import held_out_ordinals
from scaling.data.index import index_folder
from scaling.data.manifest import folder_manifest
from scaling.stages.data import load_clips
from scaling.stages.run import run_stage

VIDEOS = Path("videos")


@pytest.fixture
def clip_list() -> ClipList:
    """Six clips of three videos; the clips of the last video are held out."""
    clips = [
        Clip(VIDEOS / f"deep/{number // 2}.mp4", 17 * (number % 2), 17, 12.5, 48, 64, f'"{number}" é', number)
        for number in range(6)
    ]
    return ClipList(VIDEOS, "abc", clips, frozenset({4, 5}))


def test_a_list_is_read_as_it_was_written(clip_list: ClipList, tmp_path: Path) -> None:
    clip_list.write(tmp_path / "clips.jsonl")
    assert ClipList.read(tmp_path / "clips.jsonl", VIDEOS) == clip_list
    assert [clip.ordinal for clip in clip_list.training] == [0, 1, 2, 3]
    assert [clip.ordinal for clip in clip_list.held_out] == [4, 5]
    header, row, *_ = (tmp_path / "clips.jsonl").read_text().splitlines()
    assert json.loads(header) == {"manifest": "abc", "clips": 6}
    assert json.loads(row) == {
        "file": "deep/0.mp4",
        "first_frame": 0,
        "frames": 17,
        "fps": 12.5,
        "width": 64,
        "height": 48,
        "caption": '"0" é',
        "ordinal": 0,
        "held_out": False,
    }


def test_the_videos_may_have_moved(clip_list: ClipList, tmp_path: Path) -> None:
    clip_list.write(tmp_path / "clips.jsonl")
    moved = ClipList.read(tmp_path / "clips.jsonl", tmp_path)
    assert [clip.path for clip in moved.clips[::2]] == [tmp_path / f"deep/{number}.mp4" for number in range(3)]


@pytest.mark.parametrize(
    ("line", "change", "message"),
    [
        (0, {"clips": 7}, "holds 6 clips, but its first line says 7"),
        (0, {"manifest": None}, "clips.jsonl:1: expected 'manifest' and 'clips'"),
        (1, {"first_frame": "0"}, "clips.jsonl:2: 'first_frame' must be int (found '0')"),
        (1, {"frames": True}, "clips.jsonl:2: 'frames' must be int (found True)"),
        (2, {"caption": None}, "clips.jsonl:3: 'caption' must be str (found None)"),
        (3, {"held_out": 1}, "clips.jsonl:4: 'held_out' must be bool (found 1)"),
        (3, {"more": 1}, "clips.jsonl:4: expected the fields file, first_frame"),
        (4, {"ordinal": 2}, "clips.jsonl:5: 'ordinal' is 2, but 3 clips come before it"),
    ],
)
def test_a_wrong_value_is_named_with_its_line(
    clip_list: ClipList, tmp_path: Path, line: int, change: dict[str, object], message: str
) -> None:
    path = tmp_path / "clips.jsonl"
    clip_list.write(path)
    lines = path.read_text().splitlines()
    lines[line] = json.dumps(json.loads(lines[line]) | change)
    path.write_text("\n".join(lines) + "\n")
    with pytest.raises(UserError) as error:
        ClipList.read(path, VIDEOS)
    assert message in str(error.value)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "no such file; the data stage writes it"),
        (b"", ":1: not valid JSON"),
        (b"[1]\n", ":1: expected an object, found list"),
        (b'{"manifest": "a", "clips": 1}\n{"file": "x.mp', ":2: not valid JSON"),
        (b'{"manifest": "\xff', "not in UTF-8"),
    ],
)
def test_a_damaged_list_is_refused(tmp_path: Path, content: bytes | None, message: str) -> None:
    path = tmp_path / "clips.jsonl"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(UserError) as error:
        ClipList.read(path, VIDEOS)
    assert message in str(error.value)


def test_the_data_stage_writes_the_list(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "1")  # which a stage sets
    spec = DataSpec(worlds=WorldSpec(count=9, frames=10), frames=5, holdout_every=8)
    folder = StageFolder.create(tmp_path, Stage(slug="data", fields=DataFields(data=spec)))
    run_stage(str(folder.path))
    videos = folder.path / "videos"
    clips = cut_clips(index_folder(videos), spec)
    assert load_clips(folder) == ClipList(videos, folder_manifest(videos), clips, held_out_ordinals(clips, 8))
