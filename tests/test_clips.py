"""Clips are cut as the data spec says, and their frames are read as they were promised."""

import os
from pathlib import Path

import numpy as np
import pytest

from scaling.core.errors import UserError
from scaling.core.specs import DataSpec
from scaling.data.clips import cut_clips, leave_out_unusable
from scaling.data.frames import read_frames
from scaling.data.index import index_folder
from scaling.data.manifest import folder_manifest
from scaling.data.video import write_video
from tests.made_videos import break_still, break_zero, encode, levels, shades, write_three_videos


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder of three readable videos."""
    write_three_videos(tmp_path / "videos")
    return tmp_path / "videos"


def test_windows_follow_each_other_and_the_rest_is_cut_to_one_plus_four_k(folder: Path) -> None:
    clips = cut_clips(index_folder(folder), DataSpec(folder=str(folder), frames=9, fps=8))
    assert [(clip.path.name, clip.first_frame, clip.frames, clip.fps) for clip in clips] == [
        ("a_red-car.mp4", 0, 9, 8.0),
        ("a_red-car.mp4", 9, 9, 8.0),
        ("a_red-car.mp4", 18, 9, 8.0),
        ("a_red-car.mp4", 27, 5, 8.0),  # 34 = 3 * 9 + 7, and 7 is cut to 5
        ("c.mp4", 0, 9, 8.0),  # 12 = 9 + 3, and 3 is too short
        ("b.MP4", 0, 9, 8.0),  # 25 frames at 10 fps are 20 at 8
        ("b.MP4", 9, 9, 8.0),
    ]
    assert [clip.ordinal for clip in clips] == list(range(7))
    assert {(clip.width, clip.height) for clip in clips} == {(64, 48), (48, 32)}
    slow = cut_clips(index_folder(folder), DataSpec(folder=str(folder), frames=9, fps=24))
    assert {clip.path.name: clip.fps for clip in slow} == {"a_red-car.mp4": 8.0, "c.mp4": 8.0, "b.MP4": 10.0}


def test_every_clip_has_the_shape_and_the_frames_that_it_names(folder: Path) -> None:
    clips = cut_clips(index_folder(folder), DataSpec(folder=str(folder), frames=5))
    for clip, frames in read_frames(clips):
        assert frames.shape == (clip.frames, clip.height, clip.width, 3)
    ramp = {clip.ordinal: frames.mean((1, 2, 3)) for clip, frames in read_frames(clips) if clip.path.name == "c.mp4"}
    np.testing.assert_allclose(np.concatenate(list(ramp.values())), 16 + 4 * np.arange(10), atol=2)


@pytest.mark.parametrize(
    ("width", "height", "reason"),
    [
        (400, 16, "400x16 shrinks to 320x13 within 4096 pixels, but each side needs 16; raise 'pixels' or leave the"),
        (2, 2, "2x2 shrinks to 2x2 within 4096 pixels, but each side needs 16"),
        (64, 4096, "64x4096 shrinks to 8x512 within 4096 pixels, but each side needs 16"),
    ],
)
def test_a_video_too_narrow_is_skipped_and_named(folder: Path, width: int, height: int, reason: str) -> None:
    spec = DataSpec(folder=str(folder))
    clips = cut_clips(index_folder(folder), spec)
    write_video(folder / "b_thin.mp4", shades(6, height, width), 8)
    index = index_folder(folder)
    assert cut_clips(index, spec) == clips
    skipped = leave_out_unusable(index, spec).skipped
    assert [row["file"] for row in skipped] == ["b_thin.mp4"]
    assert reason in skipped[0]["reason"]
    for name in ("a_red-car.mp4", "c.mp4", "deep/b.MP4"):
        (folder / name).unlink()
    with pytest.raises(UserError, match=r"b_thin.mp4: .* no other file gives a clip either") as error:
        cut_clips(index_folder(folder), spec)
    assert reason in str(error.value)


def test_a_video_too_short_is_skipped_and_named(folder: Path) -> None:
    write_video(folder / "short.mp4", levels(4), 8)
    spec = DataSpec(folder=str(folder))
    skipped = leave_out_unusable(index_folder(folder), spec).skipped
    assert skipped == [{"file": "short.mp4", "reason": "too short: 4 frames at 8 fps, but a clip needs 5; raise 'fps'"}]
    assert leave_out_unusable(index_folder(folder), spec.replace(frames=1)).skipped == []


def test_a_folder_of_videos_that_are_too_short_is_a_user_error(tmp_path: Path) -> None:
    write_video(tmp_path / "short.mp4", levels(4), 8)
    with pytest.raises(UserError, match="no video has the 5 frames"):
        cut_clips(index_folder(tmp_path), DataSpec(folder=str(tmp_path)))


def test_images_give_clips_of_one_frame(folder: Path) -> None:
    break_still(folder / "still.mp4")
    encode(folder / "photo.png", shades(1, 64, 96), "png", "rgb24")
    clips = cut_clips(index_folder(folder, images=True), DataSpec(folder=str(folder), images=True))
    shapes = {clip.path.name: frames.shape for clip, frames in read_frames(clips) if clip.frames == 1}
    assert shapes == {"photo.png": (1, 48, 64, 3), "still.mp4": (1, 48, 64, 3)}


def test_a_file_that_broke_after_it_was_indexed_is_named(folder: Path) -> None:
    clips = cut_clips(index_folder(folder), DataSpec(folder=str(folder)))
    break_zero(folder / "c.mp4")
    with pytest.raises(UserError, match=r"c.mp4: empty file .* index the folder again"):
        list(read_frames(clips))


def real_videos() -> Path:
    """A folder of real videos: SCALING_VIDEOS, or one beside the checkout."""
    folder = os.environ.get("SCALING_VIDEOS")
    return Path(folder) if folder else Path(__file__).parents[2] / "shared" / "videos"


@pytest.mark.skipif(not real_videos().is_dir(), reason="no real videos: set SCALING_VIDEOS to a folder of them")
def test_real_videos_are_indexed_cut_and_read() -> None:
    index = index_folder(real_videos())
    assert not index.skipped
    assert folder_manifest(real_videos()) == index.manifest
    clips = cut_clips(index, DataSpec(folder=str(real_videos())))
    files = {file.file for file, _ in index.readable}
    assert {str(clip.path.relative_to(real_videos())) for clip in clips} == files
    assert len({clip.width / clip.height for clip in clips}) > 1
    firsts = [clip for clip in clips if clip.first_frame == 0]
    for clip, frames in read_frames(firsts):
        assert frames.shape == (clip.frames, clip.height, clip.width, 3)
        assert frames.std() > 5  # not blank
        assert clip.width * clip.height <= 4096
        assert clip.width % 16 == clip.height % 16 == 0
