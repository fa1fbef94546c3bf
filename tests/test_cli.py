"""The command line: every mistake of a user's is one line on stderr and exit code 2, never a traceback."""

import errno
import json
import os
import re
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import numpy as np
import pytest
import yaml

from scaling import cli as package
from scaling.cli.main import VERBS, build_app, main
from scaling.cli.options import command_line
from scaling.core.errors import StageError
from scaling.data.video import write_video
from sweeps.load import load_sweep
from tests.sweep_stages import shared_stages

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


def sub_verbs(verb):
    return [["data", "make"], ["data", "index"], ["data", "check"]] if verb == "data" else [[verb]]


@pytest.mark.parametrize("arguments", [words for verb in VERBS for words in sub_verbs(verb)], ids=" ".join)
def test_every_verb_has_a_help_with_examples(arguments, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    assert main([*arguments, "--help"]) == 0
    page, err = capsys.readouterr()
    words = " ".join(arguments)
    assert page.startswith(f"Usage: scaling {words}")
    assert f"\nexamples:\n  scaling {words} " in page.replace(f"  scaling {words}\n", f"  scaling {words} \n")
    assert max(map(len, page.splitlines())) <= 80
    assert err == ""


def test_the_help_lists_the_verbs_without_importing_them_or_the_library():
    code = "from scaling.cli.main import main; assert main(['--help']) == 0\n"
    code += "import sys; print(*sys.modules, sep='\\n')"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, text=True)
    assert all(f"  {verb} " in result.stdout for verb in VERBS)
    modules = set(result.stdout.splitlines())
    assert not {"cyclopts", "rich", "pydantic", "torch", "pandas", *(f"scaling.cli.{verb}" for verb in VERBS)} & modules


@pytest.mark.parametrize("verb", list(VERBS))
def test_a_verb_imports_no_other_verb_and_nothing_heavy_to_print_its_help(verb):
    code = f"from scaling.cli.main import main; assert main(['{verb}', '--help']) == 0\n"
    code += "import sys; print(*sys.modules, sep='\\n')"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, text=True)
    modules = set(result.stdout.splitlines())
    assert f"scaling.cli.{verb}" in modules
    assert not {f"scaling.cli.{other}" for other in VERBS if other != verb} & modules
    assert not {"torch", "pandas", "scipy", "av", "submitit", "matplotlib"} & modules


@pytest.mark.parametrize("path", sorted(Path(package.__file__).parent.glob("*.py")), ids=lambda path: path.stem)
def test_no_module_of_the_command_line_imports_a_verb(path):
    assert not re.findall(rf"scaling\.cli\.({'|'.join(VERBS)}) import", path.read_text())


def test_there_are_verbs_and_at_most_three_helper_modules():
    modules = {path.stem for path in Path(package.__file__).parent.glob("*.py")} - {"__init__", "main"}
    assert VERBS.keys() < modules
    assert len(modules - VERBS.keys()) <= 3


def test_the_version(capsys):
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"scaling {version('scaling')}\n"


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_knows_verbs_and_options(shell):
    script = build_app().generate_completion(shell=shell)
    assert all(verb in script for verb in VERBS)
    assert "budget-gpu-hours" in script


def test_completion_is_installed_where_it_is_asked_for(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("SHELL", "/bin/bash")
    assert main(["--install-completion", "--shell", "bash"]) == 0
    assert any("plan" in path.read_text() for path in tmp_path.rglob("*scaling*") if path.is_file())


@pytest.mark.parametrize(
    ("arguments", "fragments"),
    [
        ([], ["no verb is given; see scaling --help"]),
        (["dance"], ["no verb 'dance'", "see scaling --help"]),
        (["pln"], ["did you mean 'plan'?"]),
        (["--frob"], ["--frob", "see scaling --help"]),
        (["data"], ["make, index or check"]),
        (["data", "dance"], ["make, index or check, not 'dance'"]),
        (["plan"], ["SWEEP", "see scaling plan --help"]),
        (["plan", "demo", "--frob"], ["Unknown option: --frob", "see scaling plan --help"]),
        (["plan", "demo", "--exlain"], ["Did you mean --explain? see scaling plan --help"]),
        (["plan", "demo", "--out"], ["--out requires an argument"]),
        (["plan", "demo", "demo"], ["demo", "see scaling plan --help"]),
        (["plan", "nothing.yaml"], ["nothing.yaml: no such file"]),
        (["plan", "nothing"], ["shipped ones: ablation, base_4x_32x, demo, native, tiny, transfer"]),
        (["submit", "demo"], ["--cluster"]),
        (["status"], ["OUT"]),
        (["logs", "out"], ["STAGE"]),
        (["report", "nowhere"], ["nowhere"]),
        (["fit", "nowhere.csv"], ["nowhere.csv"]),
        (["fit", "nowhere.csv", "--law", "magic"], ['"magic" for --law', '"chinchilla"']),
        (["data", "index", "nowhere"], ["nowhere"]),
        (["fvd", "nowhere", "nowhere"], ["nowhere"]),
    ],
)
def test_mistakes(arguments, fragments, tmp_path):
    assert_one_line(command(*arguments, cwd=tmp_path), *fragments)


SAMPLE = ["sample", "RUN", "--prompt", "a ball", "--out", "a.mp4"]


@pytest.mark.parametrize(
    ("arguments", "option", "values"),
    [
        (["submit", "demo", "--cluster", "h100"], "--budget-gpu-hours", ["0", "-1", "nan", "inf", "many"]),
        (["logs", "OUT", "STAGE"], "--rank", ["-1", "1.5"]),
        (["logs", "OUT", "STAGE"], "--lines", ["0"]),
        (["data", "make", "--out", "OUT"], "--count", ["0", "1.5"]),
        (["data", "make", "--out", "OUT"], "--fps", ["0", "121"]),
        (["data", "make", "--out", "OUT"], "--width", ["17", "8"]),
        (["data", "make", "--out", "OUT"], "--max-objects", ["0", "7"]),
        (["data", "make", "--out", "OUT"], "--processes", ["0", "1.5"]),
        (["fvd", "REAL", "FAKE"], "--frames", ["8"]),
        (["fvd", "REAL", "FAKE"], "--clips", ["1", "2.5"]),
        (["fvd", "REAL", "FAKE"], "--fps", ["0", "nan"]),
        (["fvd", "REAL", "FAKE"], "--seed", ["-1"]),
        (["fit", "TABLE"], "--delta", ["0", "nan"]),
        (["fit", "TABLE"], "--lean", ["nan", "inf", "-inf"]),
        (["fit", "TABLE"], "--drop-top", ["-1"]),
        (["fit", "TABLE"], "--bootstrap", ["-1"]),
        (["fit", "TABLE"], "--seed", ["-1", "1.5", "one"]),
        (["forecast", "TABLE"], "--flops", ["0", "-1", "nan", "inf"]),
        (["forecast", "TABLE"], "--target", ["0", "nan"]),
        (["forecast", "TABLE", "--flops", "1e9"], "--add", ["0", "inf"]),
        (["forecast", "TABLE", "--flops", "1e9"], "--delta", ["0"]),
        (["forecast", "TABLE", "--flops", "1e9"], "--bootstrap", ["99", "100.5"]),
        (["forecast", "TABLE", "--flops", "1e9"], "--drop-top", ["-1"]),
        (["forecast", "TABLE", "--flops", "1e9"], "--seed", ["-1"]),
        (["estimate", "--runs", "RUNS"], "--flops", ["0", "inf"]),
        (["estimate", "--runs", "RUNS"], "--loss", ["-1"]),
        (["estimate", "--runs", "RUNS", "--flops", "1e9"], "--frames", ["0"]),
        (["estimate", "--runs", "RUNS", "--flops", "1e9"], "--height", ["0"]),
        (["estimate", "--runs", "RUNS", "--flops", "1e9"], "--width", ["0"]),
        (SAMPLE, "--seed", ["-1"]),
        (SAMPLE, "--frames", ["0"]),
        (SAMPLE, "--width", ["0"]),
        (SAMPLE, "--height", ["0"]),
        (SAMPLE, "--steps", ["0"]),
        (SAMPLE, "--guidance", ["-1", "nan", "inf"]),
        (SAMPLE, "--conditioning-frames", ["0"]),
        (SAMPLE, "--strength", ["0", "1.1"]),
    ],
    ids=lambda part: part if isinstance(part, str) else "",
)
def test_values_outside_of_an_options_range_are_refused(arguments, option, values, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    for value in values:
        assert main([*arguments, option, value]) == 2, value
        out, err = capsys.readouterr()
        assert out == ""
        assert len(err.splitlines()) == 1
        assert err.startswith("scaling: ")
        assert option in err
        assert f"see scaling {arguments[0]}" in err


def planned(capsys, *changes):
    assert main(["plan", "tiny", "--json", *(word for change in changes for word in ("--set", change))]) == 0
    return json.loads(capsys.readouterr().out)


def test_fields_of_a_sweep_are_set_on_the_command_line(capsys):
    usual = planned(capsys)
    changed = planned(capsys, "ladder.4=[w32d2, w48d2, w96d2]", "optim.muon_lr=3e-2", "data.holdout_every=12")
    assert {run["size"] for run in changed["runs"]} - {run["size"] for run in usual["runs"]} == {"w96d2"}


def test_a_path_that_is_set_is_relative_to_the_working_directory(tmp_path, monkeypatch):
    (tmp_path / "sub").mkdir()
    monkeypatch.chdir(tmp_path)
    changes = {"data.folder": "clips", "data.captions": "words.csv"}
    data = load_sweep(str(sweep_file(tmp_path / "sub")), changes).data
    assert (data.folder, data.captions) == (str(tmp_path / "clips"), str(tmp_path / "words.csv"))
    assert load_sweep(str(sweep_file(tmp_path / "sub"))).data.folder == str(tmp_path / "sub" / "videos")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("optim.mun_lr=1", "--set optim.mun_lr: unknown field; did you mean 'muon_lr'?"),
        ("optm.muon_lr=1", "--set optm: unknown field; did you mean 'optim'?"),
        ("optim.muon_lr=fast", "--set optim.muon_lr: Input should be a valid number"),
        ("base_flops=-1", "--set base_flops: Input should be greater than 0 (found -1)"),
        ("name.first=x", "--set name.first: 'name' is 'tiny', which has no fields"),
        ("optim..muon_lr=1", "--set optim..muon_lr: a part of the name is empty"),
        ("vae=huge", "--set vae: unknown preset 'huge'"),
        ("ladder.4=[w32d2]", "--set ladder: 4 runs, but a forecast needs 6"),
        ("optim.muon_lr", "--set optim.muon_lr: expected NAME=VALUE"),
        ("optim.muon_lr=[", "--set optim.muon_lr: not valid YAML"),
    ],
)
def test_a_mistake_in_a_field_that_is_set_names_it(change, message, capsys):
    assert main(["plan", "tiny", "--set", change]) == 2
    err = capsys.readouterr().err
    assert message in err
    assert len(err.splitlines()) == 1


def test_the_report_repeats_the_fields_that_were_set():
    line = command_line("run", "tiny", ("ladder.4=[w32d2, w48d2]",), "--out", "out")
    assert line == "scaling run tiny --set 'ladder.4=[w32d2, w48d2]' --out out"


@pytest.mark.parametrize(
    ("error", "code", "message"),
    [
        (StageError("vae: failed"), 1, "scaling: vae: failed\n"),
        (KeyboardInterrupt(), 130, "scaling: interrupted; run the same command again to continue\n"),
        (BrokenPipeError(), 0, ""),
        (
            OSError(errno.EROFS, "read-only", "/data/x"),
            2,
            "scaling: /data/x: the file system is read-only; choose",
        ),
    ],
)
def test_what_ends_a_verb_is_an_exit_code_and_a_line(monkeypatch, capsys, error, code, message):
    def fail(*_: object) -> None:
        raise error

    monkeypatch.setattr("sweeps.load.load_sweep", fail)
    assert main(["plan", "tiny"]) == code
    assert capsys.readouterr().err.startswith(message) or not message


def test_a_fault_of_ours_is_not_hidden(monkeypatch):
    monkeypatch.setattr("sweeps.load.load_sweep", lambda *_: 1 // 0)
    with pytest.raises(ZeroDivisionError):
        main(["plan", "tiny"])


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
    folder = out / "runs" / shared_stages(load_sweep("tiny")).data.id
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
    frames = np.random.default_rng(0).integers(0, 255, (20, 48, 64, 3), dtype=np.uint8)
    write_video(tmp_path / "good.mp4", frames, 8)
    write_video(tmp_path / "one.mp4", frames[:1], 8)
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


def test_a_sweep_in_any_language_is_read_whatever_the_locale(tmp_path):
    path = tmp_path / "größen.yaml"
    path.write_text("# Größen, размеры, 大小\nextends: tiny\nname: sweep\nbase_flops: 8.0e+9\n", encoding="utf-8")
    environment = {**os.environ, "LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    command = [sys.executable, "-m", "scaling.cli.main", "plan", str(path), "--json"]
    result = subprocess.run(command, capture_output=True, env=environment, check=False)
    assert result.returncode == 0, result.stderr
    assert json.loads(result.stdout)["sweep"] == "sweep"
