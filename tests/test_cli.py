"""The command line: every mistake of a user's is one line on stderr and exit code 2, never a traceback."""

import json
import subprocess
import sys

import numpy as np
import pytest
import yaml

from scaling.cli.main import VERBS, main
from scaling.data.video import write_video
from sweeps.spec import load_sweep
from sweeps.stages import common_stages

SCALING = [sys.executable, "-m", "scaling.cli.main"]


def command(*arguments, **options):
    return subprocess.run([*SCALING, *map(str, arguments)], capture_output=True, text=True, check=False, **options)


def assert_one_line(result, *fragments):
    assert result.returncode == 2, result.stderr
    assert result.stdout == ""
    lines = [line for line in result.stderr.splitlines() if line.startswith("scaling: ")]
    assert len(lines) == 1, result.stderr
    assert "Traceback" not in result.stderr
    for fragment in fragments:
        assert str(fragment) in lines[0]


def sweep_file(folder, **changes):
    document = {
        "name": "mine",
        "data": {"folder": "videos"},
        "vae": "tiny",
        "base_flops": 1e9,
        "ladder": {1: ["w32d2", "w48d2", "w64d2"], 4: ["w32d2", "w48d2", "w64d2"]},
        "target_sizes": ["w64d2"],
    }
    path = folder / "mine.yaml"
    path.write_text(yaml.safe_dump(document | changes))
    return path


@pytest.mark.parametrize("verb", list(VERBS))
def test_every_verb_has_help(verb, capsys):
    with pytest.raises(SystemExit) as stop:
        main([verb, "--help"])
    assert stop.value.code == 0
    assert "usage: scaling" in capsys.readouterr().out


def test_help_is_quick_because_it_imports_nothing_heavy():
    code = "from scaling.cli.main import main\ntry: main(['--help'])\nexcept SystemExit: pass\n"
    code += "import sys; assert not {'torch', 'pandas', 'scipy', 'av', 'submitit'} & set(sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, check=False).returncode == 0


@pytest.mark.parametrize(
    ("arguments", "fragment"),
    [
        (["dance"], "dance"),
        (["plan"], "SWEEP"),
        (["plan", "nothing.yaml"], "nothing.yaml: no such file"),
        (["plan", "nothing"], "shipped ones: base_4x_32x, demo, native, tiny"),
        (["report", "nowhere"], "nowhere"),
        (["fit", "nowhere.csv"], "nowhere.csv"),
        (["data", "index", "nowhere"], "nowhere"),
        (["fvd", "nowhere", "nowhere"], "nowhere"),
    ],
)
def test_mistakes(arguments, fragment, tmp_path):
    assert_one_line(command(*arguments, cwd=tmp_path), fragment)


@pytest.mark.parametrize(
    ("text", "fragment"),
    [
        ("name: [", "not valid YAML"),
        ("just words", "expected a mapping"),
        ("name: x\nbase_flop: 1", "base_flop"),
    ],
)
def test_broken_sweep_files(tmp_path, text, fragment):
    path = tmp_path / "broken.yaml"
    path.write_text(text)
    assert_one_line(command("plan", path), path, fragment)


def test_a_stage_that_was_edited_is_refused(tmp_path):
    out = tmp_path / "out"
    folder = out / "runs" / common_stages(load_sweep("tiny")).data.id
    folder.mkdir(parents=True)
    (folder / "spec.json").write_text("{")
    assert_one_line(command("demo", "--tiny", "--out", out), folder / "spec.json", "not valid JSON")


def test_bad_data_is_one_line_before_anything_is_trained(tmp_path):
    path, out = sweep_file(tmp_path), tmp_path / "out"
    assert_one_line(command("run", path, "--out", out), tmp_path / "videos")
    (tmp_path / "videos").mkdir()
    assert_one_line(command("run", path, "--out", out), tmp_path / "videos")
    (tmp_path / "videos" / "broken.mp4").write_bytes(b"")
    assert_one_line(command("run", path, "--out", out), "broken.mp4")
    assert not list(out.glob("runs/*/COMPLETE"))


def test_short_videos_are_refused_with_the_way_out(tmp_path):
    (tmp_path / "videos").mkdir()
    write_video(tmp_path / "videos" / "short.mp4", np.zeros((3, 32, 32, 3), np.uint8), 8)
    assert_one_line(command("run", sweep_file(tmp_path), "--out", tmp_path / "out"), "longer videos")


def test_a_full_disk_is_one_line_and_nothing_is_believed(small_disk):
    disk = small_disk("300k")
    assert_one_line(command("demo", "--tiny", "--out", disk / "out"), "no space left", "run the same command again")
    assert not list(disk.glob("out/runs/*/COMPLETE"))


def test_an_unwritable_output_folder(tmp_path):
    (tmp_path / "file").write_text("")
    assert_one_line(command("demo", "--tiny", "--out", tmp_path / "file"), tmp_path / "file", "--out")


def test_index_counts_and_skips(tmp_path):
    whole = np.random.default_rng(0).integers(0, 255, (20, 48, 64, 3), dtype=np.uint8)
    write_video(tmp_path / "good.mp4", whole, 8)
    write_video(tmp_path / "one.mp4", whole[:1], 8)
    (tmp_path / "cut.mp4").write_bytes((tmp_path / "good.mp4").read_bytes()[:5000])
    (tmp_path / "empty.mp4").write_bytes(b"")
    result = command("data", "index", tmp_path, "--json")
    assert result.returncode == 0
    document = json.loads(result.stdout.strip().splitlines()[-1])
    assert document["videos"] == 1
    assert document["shapes"] == {"64x48": 1}
    assert document["hours"] == pytest.approx(20 / 8 / 3600)
    assert {entry["file"] for entry in document["skipped"]} == {"one.mp4", "cut.mp4", "empty.mp4"}
    assert all(entry["reason"] for entry in document["skipped"])
