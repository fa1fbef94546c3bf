"""`scaling data make|index|check` on the command line."""

import json
from pathlib import Path

import pytest

from scaling.cli.main import main
from scaling.data.index import Index
from tests.made_videos import break_zero


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
