"""Learning rates found by trials: the same ones after a crash, good ones on planted surfaces, and none in the law."""

import json
import math
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from analysis.tables.read import read_runs
from scaling.core.errors import UserError
from scaling.core.records import Trial, read_record
from scaling.core.specs import OptimSpec, parse_spec
from scaling.core.stage_fields import DiTFields
from scaling.core.stage_folder import StageFolder
from sweeps.controller import Controller
from sweeps.ladder import with_rates
from sweeps.load import load_sweep
from sweeps.planning.plan import plan
from sweeps.report_inputs import collect
from sweeps.spec import SweepSpec
from sweeps.tuning import choose_rates, next_trials
from tests.planted import complete, law
from tests.sweep_stages import trial_stage

DEMO = load_sweep("demo")
RANGES = {"muon_lr": [0.003, 0.3], "adamw_lr": [0.0008, 0.08]}


def tuned(sweep=DEMO, **section):
    document = sweep.model_dump(mode="json", exclude={"tuning"})
    document["tuning"] = {"size": "w64d2", "trials": 12, "at_a_time": 4, **RANGES, **section}
    return parse_spec(SweepSpec, document, "demo")


SWEEP = tuned()


def planted(best_muon, best_adamw):
    """A factor of the law: 1 at the best rates, 5 % more a factor of e away; rates far above them diverge."""

    def factor(rates):
        muon, adamw = math.log(rates["muon_lr"] / best_muon), math.log(rates["adamw_lr"] / best_adamw)
        return None if muon > 1.8 or adamw > 2 else 1 + 0.05 * (muon**2 + adamw**2 + 0.5 * muon * adamw)

    return factor


BEST = (0.02, 0.012)


def loss(N, C, optim):
    factor = planted(*BEST)({"muon_lr": optim.muon_lr, "adamw_lr": optim.adamw_lr})
    return None if factor is None else factor * law(N, C, optim)


def tune(sweep, value):
    """All trials, each batch answered by the surface `value`."""
    trials = []
    while batch := next_trials(sweep, trials):
        trials += [Trial(run_id=f"run-{len(trials) + i}", rates=r, val_loss=value(r)) for i, r in enumerate(batch)]
    return trials


def run_all(out, sweep=SWEEP, loss=loss):
    rounds = []
    while ready := Controller(sweep, out).next():
        rounds.append(ready)
        complete(ready.stages, out / "runs", loss)
    return rounds


@pytest.mark.parametrize("seed", range(6))
def test_twelve_trials_come_near_the_best_rates(seed):
    """Wherever they are planted, within two decades of each rate; the own rates of the sweep are far off."""
    best = (0.003 * 100 ** (0.25 + 0.08 * seed), 0.0008 * 100 ** (0.8 - 0.1 * seed))
    value = planted(*best)
    trials = tune(tuned(DEMO.replace(optim=OptimSpec(muon_lr=0.003, adamw_lr=0.0008)), seed=seed), value)
    assert len(trials) == 12
    chosen = choose_rates(SWEEP, trials).chosen
    assert trials[0].val_loss > 1.4
    assert chosen.val_loss < 1.06
    assert all(1 / 3 < chosen.rates[name] / rate < 3 for name, rate in zip(("muon_lr", "adamw_lr"), best, strict=True))


def test_later_trials_are_nearer_than_scattered_ones():
    """TPE is told of the losses: without them its batches would be no better than the first."""
    wins = 0
    for seed in range(8):
        trials = [t.val_loss or math.inf for t in tune(tuned(seed=seed, trials=16), planted(*BEST))]
        wins += sorted(trials[12:])[1] < sorted(trials[1:4])[1]
    assert wins >= 6


def test_the_first_trial_has_the_sweeps_own_rates_or_the_nearest_in_range():
    assert next_trials(SWEEP, [])[0] == {"muon_lr": DEMO.optim.muon_lr, "adamw_lr": DEMO.optim.adamw_lr}
    assert next_trials(tuned(muon_lr=[0.04, 0.4]), [])[0] == {"muon_lr": 0.04, "adamw_lr": DEMO.optim.adamw_lr}


def test_batches_are_as_asked_and_the_last_is_the_rest():
    sizes, trials = [], []
    sweep = tuned(trials=8, at_a_time=3)
    while batch := next_trials(sweep, trials):
        sizes.append(len(batch))
        trials += [Trial(run_id="", rates=rates, val_loss=1.0) for rates in batch]
    assert sizes == [3, 3, 2]
    assert len({tuple(trial.rates.values()) for trial in trials}) == 8
    for trial in trials:
        assert all(low <= trial.rates[name] <= high for name, (low, high) in RANGES.items())


def test_another_process_asks_for_the_same_trials():
    code = (
        "import sys, json; from tests.test_tuning import SWEEP, tune, planted, BEST; "
        "print(json.dumps([t.model_dump() for t in tune(SWEEP, planted(*BEST))])); assert 'torch' not in sys.modules"
    )
    expected = [trial.model_dump() for trial in tune(SWEEP, planted(*BEST))]
    for hashes in ("1", "2"):
        environment = {**os.environ, "PYTHONHASHSEED": hashes}
        process = subprocess.run(
            [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True
        )
        assert json.loads(process.stdout) == expected
    assert [trial.model_dump() for trial in tune(tuned(seed=1), planted(*BEST))] != expected


def test_a_trial_that_diverged_is_the_worst_and_not_a_fault():
    """Where the upper half of a range diverges, later trials leave it."""
    sweep = tuned(trials=16, adamw_lr=None)
    wall = 0.03
    trials = tune(
        sweep, lambda rates: None if rates["muon_lr"] > wall else 1.0 + abs(math.log(rates["muon_lr"] / 0.02))
    )
    lost = [trial.val_loss is None for trial in trials]
    assert any(lost[:4])
    assert not all(lost[:4])
    assert sum(lost[8:]) < sum(lost[:8])
    assert choose_rates(sweep, trials).chosen.rates["muon_lr"] <= wall
    with pytest.raises(UserError, match=r"all 16 trials diverged, with muon_lr down to 0.003; lower the ranges"):
        choose_rates(sweep, tune(sweep, lambda rates: None))


def test_the_ladder_is_trained_at_the_rates_of_the_best_trial(tmp_path):
    rounds = run_all(tmp_path)
    assert [ready.title for ready in rounds[:4]] == [
        *[f"demo: tuning, {count} of 12 trials" for count in (4, 8, 12)],
        "demo: training",
    ]
    tuning = json.loads((tmp_path / "tuning.json").read_text())
    assert len(tuning["trials"]) == 12
    assert tuning["chosen"]["val_loss"] == min(trial["val_loss"] for trial in tuning["trials"] if trial["val_loss"])
    for ready in rounds[3:]:
        for stage in ready.stages:
            if stage.phase in ("training", "target"):
                optim = stage.fields_as(DiTFields).optim
                assert {"muon_lr": optim.muon_lr, "adamw_lr": optim.adamw_lr} == tuning["chosen"]["rates"]
    trials = {trial["run_id"] for trial in tuning["trials"]}
    assert all(StageFolder(tmp_path / "runs" / run_id).complete for run_id in trials)
    # w64d2 is in the ladder's base budget: its run at the chosen rates is the trial, and is not trained again.
    ladder = {stage.id for stage in rounds[3].stages if stage.phase == "training"}
    assert trials & ladder == {tuning["chosen"]["run_id"]}
    Controller(SWEEP, tmp_path).finish(())


def test_killed_after_any_trial_it_asks_for_the_same_and_trains_none_twice(tmp_path):
    straight = tmp_path / "straight"
    run_all(straight)
    out, ran = tmp_path / "out", []
    while ready := Controller(SWEEP, out).next():
        missing = [stage for stage in ready.stages if not StageFolder(out / "runs" / stage.id).complete]
        ran += complete([missing[-1] if "tuning" in ready.title else missing[0]], out / "runs", loss)
    assert sorted(ran) == sorted({path.parent.name for path in straight.glob("runs/*/COMPLETE")})
    for name in ("tuning.json", "prediction.json"):
        assert (out / name).read_bytes() == (straight / name).read_bytes()


def test_trials_are_no_part_of_the_law(tmp_path, capsys):
    """Of 9 + 1 runs and 12 trials, one of which is a run of the ladder, every reader takes the 10 runs."""
    run_all(tmp_path)
    Controller(SWEEP, tmp_path).finish(())
    assert len(list(tmp_path.glob("runs/dit-*/COMPLETE"))) == 9 + 1 + 12 - 1
    prediction = json.loads((tmp_path / "prediction.json").read_text())
    assert len(prediction["run_ids"]) == 9
    table = read_runs(tmp_path)
    assert sorted(table["compute"]) == sorted(["base"] * 3 + ["2x"] * 3 + ["4x"] * 3 + ["32x"])
    assert set(prediction["run_ids"]) < set(table["run_id"])
    shown = collect(tmp_path)
    assert len(shown.runs) == 10
    assert shown.tuning is not None
    (tmp_path / "prediction.json").unlink()
    assert len(collect(tmp_path).runs) == 10
    tuning = json.loads((tmp_path / "tuning.json").read_text())
    assert read_record(tmp_path / "runs" / tuning["chosen"]["run_id"] / "record.json").phase == "tuning"


def test_rates_once_said_are_kept_until_something_else_is_asked(tmp_path, monkeypatch):
    """Another version of Optuna may ask for other trials: a finished sweep does not become another one by that."""
    run_all(tmp_path)
    before = (tmp_path / "tuning.json").stat().st_mtime_ns
    monkeypatch.setattr("sweeps.tuning._tpe_trials", lambda *_: pytest.fail("Optuna was asked again"))
    assert Controller(SWEEP, tmp_path).next() is None
    assert (tmp_path / "tuning.json").stat().st_mtime_ns == before
    monkeypatch.undo()
    more = Controller(tuned(trials=16), tmp_path).next()
    assert more.title == "demo: tuning, 16 of 16 trials"
    other = with_rates(SWEEP, {"muon_lr": 0.05}).replace(seed=5)
    assert Controller(other, tmp_path).next().title == "demo: tuning, 4 of 12 trials"
    assert Controller(DEMO, tmp_path).next().title == "demo: training"
    assert not (tmp_path / "tuning.json").exists()


def test_a_sweep_that_branches_has_trials_that_do_not(tmp_path):
    optim = DEMO.optim.replace(warmup_steps=2, decay_fraction=0.25)
    sweep = SWEEP.replace(optim=optim, branches=True)
    trial = trial_stage(sweep, {"muon_lr": 0.01})
    assert (set(trial.parents), trial.phase) == ({"vae", "latents"}, "tuning")
    assert trial.fields_as(DiTFields).optim.muon_lr == 0.01


@pytest.mark.parametrize(
    ("section", "message"),
    [
        ({"size": "w65d2"}, "tuning.size: "),
        ({"muon_lr": [0.1, 0.01]}, r"tuning.muon_lr|tuning: muon_lr is \[0.1, 0.01\], but must rise"),
        ({"adamw_lr": [0, 0.01]}, r"adamw_lr is \[0, 0.01\]"),
        ({"muon_lr": None, "adamw_lr": None}, "no rate to tune"),
        ({"multiple": 32}, "tuning.multiple is 32"),
        ({"trails": 8}, "did you mean 'trials'"),
        ({"trials": 1}, "tuning.trials"),
    ],
)
def test_a_mistaken_section_is_named(section, message):
    with pytest.raises(UserError, match=message):
        tuned(**section)


def test_muon_has_no_rate_where_nothing_is_trained_by_it():
    adamw = DEMO.replace(optim=DEMO.optim.replace(optimizer="adamw"))
    with pytest.raises(UserError, match=r"tuning.muon_lr: no weight is trained by Muon"):
        tuned(adamw)
    assert list(next_trials(tuned(adamw, muon_lr=None), [])[0]) == ["adamw_lr"]


def test_a_sweep_with_tuning_is_planned_and_its_runs_are_found_at_the_rates_that_were_chosen(tmp_path):
    computes = [line.compute for line in plan(DEMO).runs]
    assert [line.compute for line in plan(SWEEP).runs if line.phase != "tuning"] == computes
    run_all(tmp_path)
    runs = [line for line in plan(SWEEP, tmp_path / "runs").runs if line.phase != "tuning"]
    assert [(line.compute, line.done) for line in runs] == [(compute, True) for compute in computes]


@pytest.mark.slow
def test_a_tiny_sweep_tuned_end_to_end(tmp_path):
    sweep = yaml.safe_load((Path(__file__).parents[1] / "sweeps" / "shipped" / "tiny.yaml").read_text())
    sweep["tuning"] = {"size": "w32d2", "trials": 3, "at_a_time": 2, **RANGES}
    (tmp_path / "tuned.yaml").write_text(yaml.safe_dump(sweep))
    command = [sys.executable, "-m", "scaling.cli.main", "run", str(tmp_path / "tuned.yaml"), "--out"]
    out = tmp_path / "out"
    result = subprocess.run([*command, str(out), "--json"], capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    tuning = json.loads((out / "tuning.json").read_text())
    assert tuning["chosen"]["val_loss"] == min(trial["val_loss"] for trial in tuning["trials"])
    columns = json.loads(result.stdout)["columns"]
    for column in columns:
        optim = StageFolder(out / "runs" / column["run_id"]).stage().fields_as(DiTFields).optim
        assert {name: getattr(optim, name) for name in RANGES} == tuning["chosen"]["rates"]
    for trial in tuning["trials"]:
        record = read_record(out / "runs" / trial["run_id"] / "record.json")
        assert (record.phase, record.value("val_loss")) == ("tuning", trial["val_loss"])
    shutil.rmtree(out / "runs" / tuning["trials"][1]["run_id"])
    again = subprocess.run([*command, str(out), "--json"], capture_output=True, text=True, check=True)
    assert json.loads(again.stdout)["columns"] == columns
