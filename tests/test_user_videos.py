"""A user's folder through the data stage: files that are no use are skipped, copies stay together, and a file that is
replaced afterwards is noticed."""

import os
import shutil
from pathlib import Path

import pytest

from scaling.core.errors import UserError
from scaling.core.specs import DataSpec
from scaling.core.stage import Stage
from scaling.core.stage_fields import DataFields
from scaling.core.stage_folder import StageFolder
from scaling.data.frames import read_frames
from scaling.data.index import Index
from scaling.data.manifest import folder_manifest
from scaling.data.video import write_video
from scaling.stages.data import load_clips
from scaling.stages.run import run_stage
from tests.made_videos import levels, shades, write_three_videos


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of three readable videos."""
    monkeypatch.setenv("OMP_NUM_THREADS", "1")  # which a stage sets
    write_three_videos(tmp_path / "videos")
    return tmp_path / "videos"


def data_stage(videos: Path, holdout_every: int = 2) -> StageFolder:
    """The complete `data` stage of a folder, beside it."""
    fields = DataFields(
        data=DataSpec(folder=".", frames=9, holdout_every=holdout_every), manifest=folder_manifest(videos)
    )
    folder = StageFolder.create(videos.parent / "runs", Stage(slug="data", fields=fields, folder=str(videos)))
    run_stage(str(folder.path))
    return folder


def test_a_thin_file_does_not_stop_the_data_stage(folder: Path) -> None:
    write_video(folder / "thin.mp4", shades(6, 16, 400), 8)
    stage = data_stage(folder)
    assert {clip.path.name for clip in load_clips(stage).clips} == {"a_red-car.mp4", "b.MP4", "c.mp4"}
    [skipped] = Index.load(stage.path / "index.json").skipped
    assert skipped["file"] == "thin.mp4"
    assert "each side needs 16" in skipped["reason"]


def test_copies_are_on_one_side_of_the_split_and_reported(folder: Path) -> None:
    for number in range(20):  # more than eight held-out videos, so that whole ones are held out
        write_video(folder / f"{number:02d}.mp4", levels(10, step=2 + number), 8)
    for number in range(0, 20, 3):
        shutil.copy(folder / f"{number:02d}.mp4", folder / "deep" / f"copy of {number:02d}.mp4")
    stage = data_stage(folder)
    clips = load_clips(stage)
    held_out = {clip.path.name.removeprefix("copy of ") for clip in clips.held_out}
    assert len(held_out) >= 8
    assert not held_out & {clip.path.name.removeprefix("copy of ") for clip in clips.training}
    copies = Index.load(stage.path / "index.json").copies
    assert copies == {f"deep/copy of {number:02d}.mp4": f"{number:02d}.mp4" for number in range(0, 20, 3)}


def test_a_file_that_is_replaced_after_the_data_stage_is_noticed(folder: Path) -> None:
    clips = load_clips(data_stage(folder)).clips
    pictures = [frames for _, frames in read_frames(clips)]
    os.utime(folder / "c.mp4", (1, 1))  # another time, the same content
    assert all((a == b).all() for (_, a), b in zip(read_frames(clips), pictures, strict=True))
    write_video(folder / "c.mp4", levels(12, step=5), 8)
    with pytest.raises(
        UserError, match=r"c.mp4: has been replaced since the data stage read it; put the old file back"
    ):
        list(read_frames(clips))
    write_video(folder / "c.mp4", levels(12), 8)  # the same bytes
    list(read_frames(clips))
    (folder / "c.mp4").unlink()
    with pytest.raises(UserError, match=r"c.mp4: cannot be read: No such file"):
        list(read_frames(clips))
