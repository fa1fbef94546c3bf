"""The controller of a sweep, asked again and again by processes that know nothing but the files."""

import json
import shutil
import subprocess
import sys

import pytest

from scaling.accounting import flops
from scaling.core.errors import UserError
from scaling.core.records import read_record
from scaling.core.stage_fields import DiTFields
from scaling.core.stage_folder import StageFolder
from sweeps.controller import Controller
from sweeps.load import load_sweep
from tests.planted import complete, law
from tests.sweep_stages import ladder_stages

SWEEP = load_sweep("demo")


def steps(out, loss=law, sweep=SWEEP):
    """Runs all that the controller asks for; yields the stages that are new before they are run."""
    controller, known = Controller(sweep, out), set()
    while ready := controller.next():
        yield [stage for stage in ready.stages if stage.id not in known]
        known |= {stage.id for stage in ready.stages}
        complete(ready.stages, out / "runs", loss)


def kinds(stages):
    return [f"{stage.kind} {stage.compute}".strip() for stage in stages]


def test_the_forecast_is_made_before_the_target_is_known(tmp_path):
    order = []
    for stages in steps(tmp_path):
        target = [stage for stage in stages if stage.compute == "32x"]
        assert (tmp_path / "prediction.json").exists() == bool(target)
        order.append(kinds(stages))
    shared = ["data", "vae", "latents", "reference", "reconstruction"]
    assert order[0] == [*shared, *["dit 4x"] * 3, *["dit 2x"] * 3, *["dit base"] * 3]
    assert order[1:] == [["metrics base", "metrics 4x", "dit 32x"], ["metrics 32x"]]
    result = Controller(SWEEP, tmp_path).finish(("scaling run demo",))
    assert [column.run.compute for column in result.columns] == ["base", "4x", "32x"]
    losses = [law(column.run.n_params, column.run.train_flops, SWEEP.optim) for column in result.columns]
    assert [column.run.value("val_loss") for column in result.columns] == losses
    assert result.prediction.low < result.measured < result.prediction.high
    written = {path.name for path in tmp_path.iterdir()}
    assert {"prediction.json", "outcome.json", "columns.json", "report"} <= written


def test_every_stage_alone_is_a_place_to_stop_and_nothing_is_run_twice(tmp_path):
    """Each time only the first missing stage is run before the question is asked again."""
    ran, documents = [], set()
    while ready := Controller(SWEEP, tmp_path).next():
        first = next(stage for stage in ready.stages if not StageFolder(tmp_path / "runs" / stage.id).complete)
        ran += complete([first], tmp_path / "runs")
        if (tmp_path / "prediction.json").exists():
            documents.add((tmp_path / "prediction.json").stat().st_mtime_ns)
    assert len(ran) == len(set(ran)) == 4 + 9 + 3 + 1 + 1
    assert len(documents) == 1
    straight = tmp_path / "straight"
    list(steps(straight))
    assert {path.parent.name for path in straight.glob("runs/*/COMPLETE")} == set(ran)
    assert (straight / "prediction.json").read_bytes() == (tmp_path / "prediction.json").read_bytes()


def test_nothing_is_finished_before_its_end(tmp_path):
    with pytest.raises(UserError, match="is not complete"):
        Controller(SWEEP, tmp_path).finish(())


def test_runs_that_diverged_are_in_no_column_and_not_in_the_forecast(tmp_path):
    """The best run of the base budget, as planted, is lost."""
    base = [stage for stage in ladder_stages(SWEEP) if stage.compute == "base"]
    best = min(base, key=lambda stage: law(count(stage), stage.fields_as(DiTFields).flop_budget, SWEEP.optim))

    lost = (count(best), SWEEP.base_flops)

    def loss(*run):
        return None if run[:2] == lost else law(*run)

    forecasts = set()
    for stages in steps(tmp_path, loss):
        assert best.id not in [stage.parents.get("dit") for stage in stages]
        forecasts |= {path.stat().st_mtime_ns for path in tmp_path.glob("prediction.json")}
    assert len(forecasts) == 1
    result = Controller(SWEEP, tmp_path).finish(())
    assert result.columns[0].run.run_id != best.id
    assert best.id not in result.prediction.run_ids
    assert any(best.id in refusal for refusal in result.prediction.refusals)


def count(stage):
    return flops.non_embedding(flops.dit_params(stage.fields_as(DiTFields).dit, SWEEP.vae.latent_channels))


@pytest.mark.parametrize(
    ("diverges", "message"),
    [
        (lambda N, multiple: multiple == 32, "the 32x run diverged"),
        (lambda N, multiple: multiple == 1, "every run of budget 'base' diverged"),
        (lambda N, multiple: True, "every run of budget 'base' diverged"),
        (lambda N, multiple: multiple == 2 or N > 500_000, "no forecast: 4 runs.*; these diverged: dit-w96d3-"),
    ],
)
def test_a_sweep_that_cannot_continue_says_why(tmp_path, diverges, message):
    def loss(N, C, optim):
        return None if diverges(N, round(C / SWEEP.base_flops)) else law(N, C, optim)

    with pytest.raises(UserError, match=message):
        list(steps(tmp_path, loss))
    with pytest.raises(UserError, match=message):  # and nothing else when asked again
        Controller(SWEEP, tmp_path).next()


def test_complete_stages_are_put_under_this_sweeps_labels(tmp_path):
    """Another sweep has trained the same stages before."""
    other = SWEEP.replace(name="other")
    list(steps(tmp_path, sweep=other))
    assert Controller(SWEEP, tmp_path).next() is None
    assert {StageFolder(path.parent).stage().sweep for path in tmp_path.glob("runs/*/COMPLETE")} == {"demo"}
    run = next(iter(tmp_path.glob("runs/dit-*")))
    assert read_record(run / "record.json").sweep == "other"


def test_other_runs_make_another_forecast_and_the_old_comparison_goes(tmp_path):
    list(steps(tmp_path))
    Controller(SWEEP, tmp_path).finish(())
    before = json.loads((tmp_path / "prediction.json").read_text())
    fewer = SWEEP.replace(ladder={k: v for k, v in SWEEP.ladder.items() if k != 2})
    list(steps(tmp_path, sweep=fewer))
    after = json.loads((tmp_path / "prediction.json").read_text())
    assert set(after["run_ids"]) < set(before["run_ids"])
    assert not (tmp_path / "outcome.json").exists()
    shutil.rmtree(tmp_path / "runs" / after["run_ids"][0])
    assert Controller(fewer, tmp_path).next() is not None


def test_a_login_node_asks_the_controller_without_torch(tmp_path):
    code = (
        "import sys; from pathlib import Path; from sweeps.controller import Controller; "
        "from sweeps.load import load_sweep; "
        f"assert Controller(load_sweep('tiny'), Path({str(tmp_path)!r})).next(); assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
