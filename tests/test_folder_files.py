"""What is found below a folder of videos, and what is left out."""

import os
from pathlib import Path

import pytest
from PIL import Image

from scaling.core.errors import UserError
from scaling.core.specs import DataSpec
from scaling.data.clips import cut_clips
from scaling.data.folder_files import list_files
from scaling.data.frames import read_frames, read_video
from scaling.data.index import examine, index_folder
from tests.made_videos import encode, levels, shades


def write_names(folder: Path, *names: str) -> None:
    """Files that are listed and never opened."""
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"")


def test_links_to_folders_are_followed_and_each_folder_is_listed_once(tmp_path: Path) -> None:
    videos, elsewhere = tmp_path / "videos", tmp_path / "elsewhere"
    write_names(videos, "a.mp4", "sub/b.mp4")
    write_names(elsewhere, "c.mp4", "more/d.mp4")
    (videos / "first").symlink_to(elsewhere)
    (videos / "second").symlink_to(elsewhere / "more")  # which the first link has listed
    (videos / "again").symlink_to(videos / "sub")
    (videos / "sub" / "round").symlink_to(videos)
    (elsewhere / "more" / "up").symlink_to(elsewhere)
    (elsewhere / "itself").symlink_to(elsewhere / "itself")
    listed = list_files(videos, images=False)
    assert listed.names == ["a.mp4", "first/c.mp4", "first/more/d.mp4", "sub/b.mp4"]
    (videos / "top").symlink_to(tmp_path)
    listed = list_files(videos, images=False)
    assert len(listed.candidates) == 4
    assert listed.unreachable["top"] == "a link to a folder that holds the folder of videos"


def test_what_cannot_be_read_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_names(tmp_path, "a.mp4", "closed/b.mp4", "sub/c.mp4")
    (tmp_path / "gone.mp4").symlink_to(tmp_path / "nowhere")
    os.mkfifo(tmp_path / "pipe.mp4")
    scandir = os.scandir

    def closed(path: Path) -> object:
        """As for a user without the right to read; the user of a test may have all rights."""
        if Path(path).name == "closed":
            raise PermissionError(13, "Permission denied")
        return scandir(path)

    monkeypatch.setattr(os, "scandir", closed)
    listed = list_files(tmp_path, images=False)
    assert listed.names == ["a.mp4", "sub/c.mp4"]
    assert listed.unreachable == {
        "closed": "cannot be read: Permission denied",
        "gone.mp4": "a link to nothing",
        "pipe.mp4": "not a file, such as a pipe",
    }
    assert examine(tmp_path).unreachable == listed.unreachable
    with pytest.raises(UserError, match="closed: cannot be read: Permission denied"):
        list_files(tmp_path / "closed", images=False)


def test_other_files_are_counted_by_their_suffix(tmp_path: Path) -> None:
    write_names(tmp_path, "notes.txt", "b.TXT", "photo.heic", "README", ".hidden.srt", ".folder/a.srt")
    with pytest.raises(UserError, match=r"no videos in it but 2 .txt, 1 without suffix, 1 .heic; "):
        list_files(tmp_path, images=False)
    write_names(tmp_path, "a.mp4", "picture.png")
    assert examine(tmp_path).other_files == {".txt": 2, ".heic": 1, ".png": 1, "without suffix": 1}
    assert examine(tmp_path, images=True).other_files == {".txt": 2, ".heic": 1, "without suffix": 1}


@pytest.mark.parametrize(
    ("suffix", "codec", "pixels", "size"),
    [
        ("3gp", "mpeg4", "yuv420p", (32, 48)),
        ("mts", "libx264", "yuv420p", (32, 48)),
        ("m2ts", "libx264", "yuv420p", (32, 48)),
        ("vob", "mpeg2video", "yuv420p", (32, 48)),
        ("mxf", "mpeg2video", "yuv420p", (32, 48)),
        ("y4m", "rawvideo", "yuv420p", (32, 48)),
        ("apng", "apng", "rgb24", (32, 48)),
    ],
)
def test_videos_of_rarer_formats_are_candidates_and_read(
    tmp_path: Path, suffix: str, codec: str, pixels: str, size: tuple[int, int]
) -> None:
    pictures = levels(25, *size)
    encode(tmp_path / f"a.{suffix}", pictures, codec, pixels, rate=25)
    index = index_folder(tmp_path)
    (_, info), spec = index.readable[0], DataSpec(folder=str(tmp_path), frames=25, fps=25)
    assert (info.width, info.height, info.frames) == (48, 32, 25)
    [(_, frames)] = read_frames(cut_clips(index, spec))
    assert abs(frames.mean((1, 2, 3)) - pictures.mean((1, 2, 3))).max() < 3


def test_a_picture_in_avif_is_an_image(tmp_path: Path) -> None:
    Image.fromarray(shades(1, 64, 96)[0]).save(tmp_path / "photo.avif", quality=90)
    index = index_folder(tmp_path, images=True)
    [(_, frames)] = read_frames(cut_clips(index, DataSpec(folder=str(tmp_path), images=True, pixels=96 * 64)))
    assert abs(frames[0].astype(int) - shades(1, 64, 96)[0]).mean() < 3


@pytest.mark.parametrize("name", ["http:a.mp4", "12:30.mp4", "file:a.mp4", "concat:a|b.mp4", "data:a.mp4"])
def test_a_colon_in_a_relative_name_is_a_letter(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.chdir(tmp_path)
    encode(tmp_path / name, levels(9), "libx264", "yuv420p")
    index = index_folder(Path("."))
    assert not index.skipped
    [(_, frames)] = read_frames(cut_clips(index, DataSpec(folder=".", frames=9, fps=10)))
    assert len(frames) == 9
    assert len(read_video(Path(name), (48, 32), 10)) == 9
