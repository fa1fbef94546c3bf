"""`scaling data make|index|check` on the command line."""

import json
import shutil
from pathlib import Path

import pytest

from scaling.cli.main import main
from scaling.data.index import Index
from scaling.data.video import write_video
from tests.made_videos import break_zero, shades, write_three_videos


def test_the_output_is_one_object_and_progress_goes_elsewhere(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    videos = tmp_path / "worlds"
    make = ["make", "--out", str(videos), "--count", "3", "--frames", "9", "--processes", "1", "--json"]
    assert main(["data", *make]) == 0
    assert json.loads(capsys.readouterr().out)["count"] == 3
    break_zero(videos / "videos" / "broken.mp4")
    assert main(["data", "index", str(videos), "--out", str(tmp_path / "index.json"), "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert result["videos"] == 3
    assert result["shapes"] == {"64x64": 3}
    assert result["manifest"] == Index.load(tmp_path / "index.json").manifest
    assert main(["data", "check", str(videos), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["skipped"] == [
        {"file": "videos/broken.mp4", "reason": "empty file (0 bytes)"}
    ]
    assert main(["data", "check", str(videos)]) == 0
    assert "unreadable: videos/broken.mp4: empty file" in capsys.readouterr().out


def test_check_names_files_that_give_no_clip_and_copies(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_three_videos(tmp_path)
    write_video(tmp_path / "thin.mp4", shades(6, 16, 400), 8)
    shutil.copy(tmp_path / "c.mp4", tmp_path / "d.mp4")
    assert main(["data", "check", str(tmp_path)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == f"{tmp_path}: 5 of 5 files can be read"
    assert "copies, which stay on one side of the held-out split: 1 (d.mp4 of c.mp4)" in lines
    assert lines[-1].startswith("unusable: thin.mp4: 400x16 shrinks to 320x13 within 4096 pixels")
    assert main(["data", "check", str(tmp_path), "--pixels", "9216", "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert (result["skipped"], result["copies"]) == ([], {"d.mp4": "c.mp4"})


@pytest.mark.parametrize("verb", ["index", "check"])
def test_what_is_left_out_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str], verb: str) -> None:
    write_three_videos(tmp_path)
    (tmp_path / "captions.csv").write_text("file,caption\nc.mp4,a ramp\ngone.mp4,x\n")
    (tmp_path / "notes.pdf").write_text("x")
    (tmp_path / "lost.mp4").symlink_to(tmp_path / "nowhere")
    assert main(["data", verb, str(tmp_path), "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert result["unmatched_captions"] == 1
    assert result["captions_without_video"] == ["gone.mp4"]
    assert result["videos_without_caption"] == ["a_red-car.mp4", "deep/b.MP4"]
    assert result["other_files"] == {".pdf": 1}
    assert result["unreachable"] == {"lost.mp4": "a link to nothing"}
    assert main(["data", verb, str(tmp_path)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert "1 captions name a file that is not there: gone.mp4" in lines
    assert "without a caption, so that their names serve: 2 of 3 files (a_red-car.mp4, deep/b.MP4)" in lines
    assert "other files: 1 .pdf" in lines
    assert "left out: lost.mp4: a link to nothing" in lines


@pytest.mark.parametrize(("flag", "value"), [("--width", "63"), ("--count", "0"), ("--processes", "0")])
def test_an_impossible_world_is_refused_with_the_option(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], flag: str, value: str
) -> None:
    assert main(["data", "make", "--out", str(tmp_path / "worlds"), flag, value]) == 2
    assert flag.strip("-") in capsys.readouterr().err
    assert not (tmp_path / "worlds").exists()


def test_sizes_can_be_given_on_the_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["data", "make", "--out", str(tmp_path / "worlds"), "--count", "2"]
    assert main([*command, "--shapes", "1x32x64", "5x32x32"]) == 0
    assert "1 frames of 64x32, 5 frames of 32x32" in capsys.readouterr().out
    assert main([*command, "--shapes", "1x32"]) == 2
    assert "--shapes.0 1x32: expected frames, height and width" in capsys.readouterr().err
