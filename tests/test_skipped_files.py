"""What a plan says of the files of a user's folder that training will skip."""

import json
from pathlib import Path

import pytest
import yaml

from scaling.cli.main import main
from scaling.core.specs import DataSpec
from scaling.data.headers import skipped_by_header
from scaling.data.video import write_video
from tests.made_videos import break_text, shades, sound, write_three_videos


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder of three readable videos and three that are no use."""
    write_three_videos(tmp_path / "videos")
    write_video(tmp_path / "videos" / "http:thin.mp4", shades(6, 16, 400), 8)
    break_text(tmp_path / "videos" / "text.mp4")
    sound(tmp_path / "videos" / "sound.mp4")
    return tmp_path / "videos"


def test_headers_tell_thin_files_and_those_that_do_not_open(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    skipped = skipped_by_header(Path("."), DataSpec(folder="."))
    assert list(skipped) == ["http:thin.mp4", "sound.mp4", "text.mp4"]
    assert skipped["http:thin.mp4"].startswith("400x16 shrinks to 320x13 within 4096 pixels, but each side needs 16")
    assert skipped["sound.mp4"] == "no video in it"
    assert skipped["text.mp4"].startswith("cannot be opened as a video")
    assert "http:thin.mp4" not in skipped_by_header(Path("."), DataSpec(folder=".", pixels=9216))


def test_a_plan_names_the_files_that_will_be_skipped(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    sweep = {"name": "mine", "data": {"folder": "videos"}, "vae": "tiny", "vae_train": {"steps": 2}, "base_flops": 1e9}
    sweep |= {
        "ladder": {1: ["w32d2", "w32d3", "w64d2"], 2: ["w32d2", "w32d3", "w64d2"]},
        "target": 4,
        "target_sizes": ["w32d3"],
    }
    (folder.parent / "mine.yaml").write_text(yaml.safe_dump(sweep))
    command = ["plan", str(folder.parent / "mine.yaml"), "--out", str(folder.parent / "out")]
    assert main(command) == 0
    shown = capsys.readouterr()
    assert f"Skipped: {folder}/http:thin.mp4: 400x16 shrinks to 320x13" in shown.out, shown.err
    assert main([*command, "--json"]) == 0
    skipped = json.loads(capsys.readouterr().out)["skipped"]
    assert [Path(row["file"]).name for row in skipped] == ["http:thin.mp4", "sound.mp4", "text.mp4"]
