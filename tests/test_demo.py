"""The demo, shortened: from nothing to a report, killed on the way, and never done twice."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml

from scaling.core.records import read_record, read_records
from scaling.core.specs import parse_spec
from scaling.stages.run import run_stage
from slurm.local_stages import execute
from sweeps.report_inputs import collect
from sweeps.spec import SweepSpec
from tests.sweep_stages import ladder_stages, trunk_stages

SCALING = [sys.executable, "-m", "scaling.cli.main"]
COMPUTES = ["base", "4x", "32x"]


def run_scaling(*arguments):
    result = subprocess.run([*SCALING, *map(str, arguments), "--json"], capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    return json.loads(result.stdout)


def numbers(out):
    """What must be the same after an interruption: everything in the records but times."""
    ignored = {"wall_seconds", "flops_per_second"}
    return {record.run_id: record.model_dump(exclude=ignored) for record in read_records(out / "runs")}


def attempts(out):
    return {path.parent.parent.name: len(list(path.parent.iterdir())) for path in out.glob("runs/*/attempts/*")}


def kill_at(out, moment, *, group):
    """Starts the demo and kills it as soon as a file that matches `moment` is there."""
    process = subprocess.Popen(
        [*SCALING, "demo", "--tiny", "--out", str(out)],
        start_new_session=True,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    while not any(out.glob(moment)):
        assert process.poll() is None, f"it ended before there was a {moment}"
        time.sleep(0.05)
    os.killpg(process.pid, signal.SIGKILL) if group else process.kill()
    process.wait()


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    out = tmp_path_factory.mktemp("demo") / "out"
    return out, run_scaling("demo", "--tiny", "--out", out)


def test_the_outcome_is_what_was_promised(finished):
    _, outcome = finished
    columns = outcome["columns"]
    assert [column["compute"] for column in columns] == COMPUTES
    assert columns[0]["val_loss"] > columns[1]["val_loss"] > columns[2]["val_loss"]
    base = columns[0]["train_flops"]
    assert columns[1]["train_flops"] / base == pytest.approx(4, rel=0.03)
    assert columns[2]["train_flops"] / base == pytest.approx(32, rel=0.03)
    assert all(column["fvd"] > 0 and column["num_tokens"] > 0 and column["n_params"] > 0 for column in columns)
    prediction = outcome["prediction"]
    assert prediction["at"] == "32x"
    assert prediction["low"] < prediction["val_loss"] < prediction["high"]
    assert prediction["measured"] == columns[2]["val_loss"]
    assert Path(outcome["report"]).stat().st_size > 10_000


def test_the_forecast_was_on_disk_before_the_run_that_it_is_of(finished):
    out, outcome = finished
    target = out / "runs" / outcome["columns"][2]["run_id"]
    first_attempt = target / "attempts" / "0001.json"
    assert (out / "prediction.json").stat().st_mtime_ns < first_attempt.stat().st_mtime_ns
    assert outcome["columns"][2]["run_id"] not in json.loads((out / "prediction.json").read_text())["run_ids"]


def test_every_run_left_a_full_record(finished):
    out, _ = finished
    for record in read_records(out / "runs"):
        assert record.versions["torch"]
        assert record.wall_seconds is not None
        if record.stage == "dit":
            assert None not in (record.n_params, record.num_tokens, record.train_flops, record.vae_id, record.data_id)
            assert record.value("val_loss") is not None
        if record.stage == "metrics":
            fvd = record.metric("fvd")
            assert (fvd.extractor, fvd.n, fvd.settings["frames"]) == ("i3d_k400", 4, 16)


def test_the_report_tells_the_quality_of_the_vae(finished):
    out, _ = finished
    vae = collect(out).vae.run
    assert [metric.name for metric in vae.metrics] == ["psnr", "ssim", "lpips", "rfvd", "rfvd_infinity"]


def test_run_again_everything_is_complete(finished):
    out, outcome = finished
    before = attempts(out)
    assert run_scaling("demo", "--tiny", "--out", out) == outcome
    assert attempts(out) == before


def test_killed_anywhere_it_ends_with_the_same_records(finished, tmp_path):
    undisturbed, _ = finished
    out = tmp_path / "out"
    for moment in (
        "runs/data-*/attempts/0001.json",
        "runs/vae-*/checkpoints/step-*",
        "runs/dit-*/checkpoints/step-*",
        "prediction.json",
    ):
        kill_at(out, moment, group=True)
    # The launcher alone: its jobs go on, and the next launcher waits for them instead of doing their work twice.
    kill_at(out, "runs/metrics-*/attempts/0001.json", group=False)
    run_scaling("demo", "--tiny", "--out", out)
    assert numbers(out) == numbers(undisturbed)
    prediction = [json.loads((folder / "prediction.json").read_text()) for folder in (out, undisturbed)]
    assert prediction[0] == prediction[1]


def test_a_run_that_another_sweep_trained_is_found_under_this_sweeps_label(finished, tmp_path):
    """The tiny sweep's 4x runs are the base runs of a sweep with four times its base."""
    out, _ = finished
    copy = tmp_path / "out"
    shutil.copytree(out, copy)
    sweep = yaml.safe_load((Path(__file__).parents[1] / "sweeps" / "shipped" / "tiny.yaml").read_text())
    sweep["base_flops"] *= 4
    sweep["target"] = 5
    (tmp_path / "larger.yaml").write_text(yaml.safe_dump(sweep))
    before = attempts(copy)
    larger = run_scaling("run", tmp_path / "larger.yaml", "--out", copy)
    base = larger["columns"][0]
    assert (base["compute"], attempts(copy)[base["run_id"]]) == ("base", before[base["run_id"]])
    shown = {run.run_id: run.compute for run in collect(copy).runs}
    assert sorted(shown.values()) == ["4x"] * 3 + ["5x"] + ["base"] * 3
    assert shown[base["run_id"]] == "base"


def test_a_complete_stage_is_not_touched(finished):
    out, outcome = finished
    folder = out / "runs" / outcome["columns"][0]["run_id"]
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*") if path.is_file() and path.name != "lock"}
    run_stage(str(folder))
    assert before == {path: path.stat().st_mtime_ns for path in before}


@pytest.mark.slow
def test_real_videos_end_to_end(tmp_path):
    """Eight videos that nobody here made: mixed codecs, aspect ratios, rates and lengths."""
    videos = Path(os.environ.get("SCALING_VIDEOS", Path(__file__).parents[2] / "shared" / "videos"))
    if not videos.is_dir():
        pytest.skip(f"{videos} is not there; SCALING_VIDEOS may name a folder of videos")
    sweep = {
        "name": "real",
        "data": {"folder": str(videos), "pixels": 4096, "holdout_every": 4},
        "vae": {"patch": 4, "stages": [{"width": 32, "down": "both"}, {"width": 64, "down": "time"}]},
        "vae_train": {"steps": 60},
        "optim": {"batch_tokens": 1024},
        "evaluation": {"val_clips": 16, "val_times": 4, "sample_steps": 8, "sample_at": [0.5, 1.0]},
        "fvd": {"clips": 8},
        "base_flops": 2e10,
        "ladder": {1: ["w32d2", "w48d2", "w64d2"], 4: ["w32d2", "w48d2", "w64d2"]},
        "target_sizes": ["w64d2", "w64d3"],
    }
    (tmp_path / "real.yaml").write_text(yaml.safe_dump(sweep))
    outcome = run_scaling("run", tmp_path / "real.yaml", "--out", tmp_path / "out")
    assert Path(outcome["report"]).exists()
    data = next(record for record in read_records(tmp_path / "out" / "runs") if record.stage == "data")
    assert data.shape["sizes"] > 1


@pytest.mark.slow
def test_another_vae_in_the_same_folder_makes_runs_of_its_own(finished, tmp_path):
    """Old runs stay, and neither the forecast nor the page takes them for its own."""
    out, outcome = finished
    copy = tmp_path / "out"
    shutil.copytree(out, copy)
    sweep = yaml.safe_load((Path(__file__).parents[1] / "sweeps" / "shipped" / "tiny.yaml").read_text())
    sweep["vae_train"]["steps"] = 30
    (tmp_path / "other.yaml").write_text(yaml.safe_dump(sweep))
    other = run_scaling("run", tmp_path / "other.yaml", "--out", copy)
    assert {column["run_id"] for column in other["columns"]}.isdisjoint(
        column["run_id"] for column in outcome["columns"]
    )
    assert run_scaling("report", copy)["runs"] == 7


def test_branches_of_one_trunk_cost_less(tmp_path, finished):
    """The runs of a branching sweep are those of a sweep that trains each from the start, at less compute."""
    sweep = yaml.safe_load((Path(__file__).parents[1] / "sweeps" / "shipped" / "tiny.yaml").read_text())
    sweep["optim"] |= {"warmup_steps": 2, "decay_fraction": 0.25}
    separate = parse_spec(SweepSpec, sweep, "tiny")
    branching = separate.replace(branches=True)
    runs = tmp_path / "runs"
    shutil.copytree(finished[0] / "runs", runs)
    losses = {}
    for spec in (separate, branching):
        stages = [stage for stage in ladder_stages(spec) if stage.slug == "dit-w32d2"]
        trunks = [stage for stage in trunk_stages(spec) if stage.slug == "trunk-w32d2"]
        execute([*trunks, *stages], runs, jobs=1, cores=1)
        records = [read_record(runs / stage.id / "record.json") for stage in stages]
        losses[spec.branches] = [record.value("val_loss") for record in records]
        spent = sum(read_record(runs / stage.id / "record.json").spent_flops for stage in [*trunks, *stages])
        assert (spent < 0.9 * sum(record.train_flops for record in records)) == spec.branches
    assert losses[True] == losses[False]
