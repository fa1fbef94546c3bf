"""The estimate for our own runs: forecast and measured speed in place of assumptions, and its mistakes."""

import json
import shutil
from pathlib import Path

import pytest

from scaling.accounting import flops
from scaling.accounting.presets import VAE_PRESETS, dit_preset, family_member
from scaling.cli.main import main
from scaling.core.records import Metric, RunRecord, write_record
from scaling.core.specs import DataSpec, EngineSpec, EvalSpec, OptimSpec, TextSpec, VAETrainSpec, WorldSpec
from scaling.core.stage import Stage
from scaling.core.stage_fields import DataFields, DiTFields, LatentsFields, VAEFields
from scaling.core.stage_folder import StageFolder
from tests.estimate_command import ask, assert_one_line


@pytest.fixture(scope="module")
def runs(tmp_path_factory) -> Path:
    """Finished stages of a planted law at three budgets, as far as an estimate reads them; the speed is 2e10 to 4e10
    FLOP/s on two cores."""
    folder = tmp_path_factory.mktemp("planted") / "runs"

    def finish(stage, **fields):
        made = StageFolder.create(folder, stage)
        write_record(made.record_path, RunRecord(run_id=stage.id, stage=stage.kind, **fields))
        made.finish()
        return stage.id

    data = finish(Stage(slug="data", fields=DataFields(data=DataSpec(worlds=WorldSpec())), parents={}))
    fields = VAEFields(vae=VAE_PRESETS["tiny"], train=VAETrainSpec())
    vae = finish(Stage(slug="vae", fields=fields, parents={"data": data}))
    latents = finish(Stage(slug="latents", fields=LatentsFields(text=TextSpec()), parents={"data": data, "vae": vae}))
    budgets = {1e12: ("w48d2", "w64d2", "w96d3"), 2e12: ("w48d2", "w64d3", "w96d3"), 4e12: ("w64d2", "w96d3", "w128d4")}
    for budget, sizes in budgets.items():
        for number_, size in enumerate(sizes):
            dit = dit_preset(size)
            N = flops.non_embedding(flops.dit_params(dit, 8))
            D = budget / flops.dit_training(dit, 8, [(5, 4, 4)], 32) * 80
            loss = 0.2 + 6 / N**0.3 + 40 / D**0.35
            evaluation = EvalSpec(sample_steps=20, guidance=2.0)
            stage = DiTFields(dit=dit, optim=OptimSpec(), flop_budget=budget, evaluation=evaluation)
            finish(
                Stage(slug=f"dit-{size}", fields=stage, parents={"vae": vae, "latents": latents}),
                vae_id=vae,
                n_params=N,
                num_tokens=round(D),
                flop_budget=budget,
                train_flops=budget,
                metrics=(Metric(name="val_loss", value=loss),),
                device="cpu",
                engine=EngineSpec(threads=2),
                flops_per_second=(2e10, 3e10, 4e10)[number_],
            )
    return folder


def test_the_estimate_of_our_own_target(capsys, runs):
    document = ask(capsys, "estimate", "--runs", runs, "--flops", 3.2e13)
    assumptions = document["assumptions"]
    assert document["training_flops"] == {"low": 3.2e13, "high": 3.2e13}
    assert [assumptions["device_flops_per_second"][end] for end in ("low", "value", "high")] == [1e10, 1.5e10, 2e10]
    assert document["training_device_hours"] == {
        "low": pytest.approx(3.2e13 / 2e10 / 3600),
        "high": pytest.approx(3.2e13 / 1e10 / 3600),
    }
    # 17 frames of 64x64 become 5 x 8 x 8 latents and 5 x 4 x 4 tokens; guidance doubles 20 steps.
    forward, decode = assumptions["flops_per_forward"]["value"], assumptions["decode_flops_per_video"]["value"]
    assert decode == flops.vae_decode(VAE_PRESETS["tiny"], 17, 64, 64)
    assert document["inference_flops_per_video"] == pytest.approx(40 * forward + decode)
    minutes = 17 / 8 / 60
    per_hour = 1.5e10 * 3600 / document["inference_flops_per_video"] * minutes
    assert document["video_minutes_per_device_hour"] == pytest.approx(per_hour)
    assert (
        document["break_even_minutes"]["low"]
        < 3.2e13 / document["inference_flops_per_video"] * minutes
        < document["break_even_minutes"]["high"]
    )
    assert document["target"]["notes"] == []
    # The power of N against the closed form of the nearest size that one could train.
    dit = family_member(document["target"]["n_params"])
    exact = flops.dit_forward(dit, 8, [(5, 4, 4)], 32) / flops.non_embedding(flops.dit_params(dit, 8))
    assert forward / document["target"]["n_params"] == pytest.approx(exact, rel=0.05)


def test_a_loss_is_turned_into_compute(capsys, runs):
    """And back: at that compute, the forecast is of that loss."""
    document = ask(capsys, "estimate", "--runs", runs, "--loss", 0.55)
    target = document["target"]
    assert target["flops_low"] < target["flops"] < target["flops_high"]
    assert document["training_flops"] == {"low": target["flops_low"], "high": target["flops_high"]}
    assert main(["forecast", str(runs), "--flops", str(target["flops"]), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["forecast"]["val_loss"] == pytest.approx(0.55, rel=0.02)


def test_far_targets_are_marked(capsys, runs):
    assert main(["estimate", "--runs", str(runs), "--flops", "4e14"]) == 0
    text = capsys.readouterr().out
    assert "! 100 times the largest budget" in text
    assert "= training_flops / device_hour" in text


def test_size_and_measured_speed_can_be_changed(capsys, runs):
    size = ["--frames", 33, "--height", 32, "--width", 96]
    document = ask(
        capsys, "estimate", "--runs", runs, "--flops", 3.2e13, *size, "--set", "device_flops_per_second=4e14"
    )
    assert document["assumptions"]["decode_flops_per_video"]["value"] == flops.vae_decode(
        VAE_PRESETS["tiny"], 33, 32, 96
    )
    assert document["training_device_hours"]["low"] == pytest.approx(3.2e13 / 4e14 / 3600)


@pytest.mark.parametrize(
    ("changes", "fragment"),
    [
        ([{"flops_per_second": None}], "no run has a measured speed"),
        ([{"device": "cpu"}, {"device": "cuda"}], "do not mix"),
    ],
)
def test_speed_has_to_be_measured_and_of_one_device(capsys, runs, tmp_path, changes, fragment):
    other = tmp_path / "runs"
    shutil.copytree(runs, other)
    for number_, path in enumerate(sorted(other.glob("dit-*/record.json"))):
        path.write_text(json.dumps(json.loads(path.read_text()) | changes[number_ % len(changes)]))
    assert_one_line(capsys, ["estimate", "--runs", other, "--flops", "3.2e13"], fragment)


@pytest.mark.parametrize(
    ("arguments", "fragment"),
    [
        (["--loss", "0.01"], "is predicted to reach a loss of"),
        (["--loss", "5"], "give a lower loss"),
        (["--flops", "1e12"], "no run has less compute than 1e+12"),
        (["--flops", "3e13", "--frames", "16"], "must be 1 + 4k, such as 17"),
        (["--flops", "3e13", "--width", "50"], "multiple of 16"),
        (["--flops", "3e13", "--set", "device_flops=1e12"], "did you mean 'device_flops_per_second'"),
    ],
)
def test_mistakes_with_runs(capsys, runs, arguments, fragment):
    assert_one_line(capsys, ["estimate", "--runs", runs, *arguments], fragment)
