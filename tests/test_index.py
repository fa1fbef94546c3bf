"""The index of a folder of videos: unreadable files are listed with their reasons, and the manifest identifies the
data."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from scaling.core.errors import UserError
from scaling.data.index import Index, examine, index_folder
from scaling.data.manifest import folder_manifest
from scaling.data.video import UnreadableVideo, inspect, write_video
from tests.made_videos import (
    break_half,
    break_head,
    break_header_alone,
    break_noise,
    break_still,
    break_text,
    break_zero,
    encode,
    levels,
    shades,
    sound,
    write_three_videos,
)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder of three readable videos."""
    write_three_videos(tmp_path / "videos")
    return tmp_path / "videos"


BROKEN = [
    (break_zero, r"empty file \(0 bytes\)"),
    (break_text, "not a video"),
    (break_noise, "not a video"),
    (break_half, "cut off or damaged: only .*% of it decodes"),
    (break_head, "not a video, or cut off"),
    (sound, "no video in it, only sound"),
    (break_still, "one frame only"),
    (break_header_alone, "not a video|no video"),
]


@pytest.mark.parametrize(("damage", "reason"), BROKEN)
def test_a_broken_file_is_skipped_with_its_reason(folder: Path, damage: Callable[[Path], None], reason: str) -> None:
    damage(folder / "broken.mp4")
    with pytest.raises(UnreadableVideo, match=reason):
        inspect(folder / "broken.mp4")
    index = index_folder(folder)
    assert [file.file for file, _ in index.readable] == ["a_red-car.mp4", "c.mp4", "deep/b.MP4"]
    assert [row["file"] for row in index.skipped] == ["broken.mp4"]
    assert folder_manifest(folder) == index.manifest


def test_broken_links_and_half_written_files_are_not_candidates(folder: Path) -> None:
    (folder / "gone.mp4").symlink_to(folder / "nowhere.mp4")
    (folder / ".c.mp4.12.ab.tmp.mp4").write_bytes(b"half")
    assert len(examine(folder).files) == 3


def test_a_name_that_is_not_utf8_does_not_stop_the_index(folder: Path) -> None:
    os.rename(os.fsencode(folder / "c.mp4"), os.fsencode(folder) + b"/caf\xe9.mp4")
    index = index_folder(folder)
    assert "caf\\xe9.mp4" in [row["file"] for row in index.skipped]
    index.save(folder / "index.json")
    assert Index.load(folder / "index.json") == index


def test_images_are_candidates_only_if_the_user_asks_for_them(folder: Path) -> None:
    break_still(folder / "still.mp4")
    encode(folder / "photo.png", shades(1, 64, 96), "png", "rgb24")
    index = index_folder(folder, images=True)
    assert not index.skipped
    assert {file.file for file, info in index.readable if info.frames == 1} == {"photo.png", "still.mp4"}
    assert "photo.png" not in [file.file for file in examine(folder).files]


def test_an_index_is_read_as_it_was_written(folder: Path) -> None:
    break_zero(folder / "broken.mp4")
    index = index_folder(folder)
    index.save(folder / "index.json")
    assert Index.load(folder / "index.json") == index
    assert index.summary() == {
        "videos": 3,
        "hours": pytest.approx((34 / 8 + 25 / 10 + 12 / 8) / 3600),
        "shapes": {"48x32": 2, "96x64": 1},
        "skipped": [{"file": "broken.mp4", "reason": "empty file (0 bytes)"}],
    }
    (folder / "index.json").write_text('{"folder": "x"}')
    with pytest.raises(UserError, match=r"index.json: files: Field required"):
        Index.load(folder / "index.json")


def test_the_manifest_follows_names_contents_and_captions(folder: Path) -> None:
    manifests = [folder_manifest(folder)]
    assert manifests[0] == index_folder(folder).manifest
    (folder / "captions.csv").write_text("file,caption\nc.mp4,a gray ramp\n")
    manifests.append(folder_manifest(folder))
    (folder / "c.mp4").rename(folder / "d.mp4")
    manifests.append(folder_manifest(folder))
    write_video(folder / "d.mp4", levels(13), 8)
    manifests.append(folder_manifest(folder))
    break_zero(folder / "e.mp4")
    manifests.append(folder_manifest(folder))
    assert len(set(manifests)) == 5
    assert manifests[-1] == index_folder(folder).manifest


def test_a_folder_without_videos_is_the_users_mistake(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="nowhere: no such folder"):
        index_folder(tmp_path / "nowhere")
    (tmp_path / "notes.txt").write_text("x")
    with pytest.raises(UserError, match=r"notes.txt: is a file"):
        index_folder(tmp_path / "notes.txt")
    with pytest.raises(UserError, match="no videos in it"):
        index_folder(tmp_path)
    break_zero(tmp_path / "a.mp4")
    with pytest.raises(UserError, match=r"none of its 1 files .* a.mp4: empty file"):
        index_folder(tmp_path)
