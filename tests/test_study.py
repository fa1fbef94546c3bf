"""Studies: lists of runs from YAML and from Python, their combinations, their rows, and the shipped ones."""

import json

import pytest
import yaml

from scaling.cli.main import main
from scaling.core.errors import UserError
from scaling.core.records import RunRecord
from scaling.core.specs import load_yaml
from scaling.core.stage_fields import DiTFields
from scaling.core.stage_folder import StageFolder
from slurm.request import Request
from sweeps.controller import Controller
from sweeps.load import load_sweep, shipped_sweeps
from sweeps.phases import possible_stages
from sweeps.planning.plan import plan
from sweeps.spec import StudySpec
from sweeps.stages import StageBuilder
from sweeps.study_rows import study_rows
from tests.planted import complete, law

STUDY = {
    "name": "study",
    "extends": "tiny",
    "runs": [{"size": "w32d2", "multiple": 1}, {"size": "w48d2", "multiple": 0.25}],
    "vary": {
        "prediction": {"velocity": {}, "clean": {"dit.prediction": "clean"}},
        "seed": [0, 1],
    },
}


def load(tmp_path, overrides=None, **changes):
    path = tmp_path / "study.yaml"
    path.write_text(yaml.safe_dump({**STUDY, **changes}, sort_keys=False))
    return load_sweep(str(path), overrides or {})


def test_a_study_is_every_run_in_every_combination_of_its_axes(tmp_path):
    study = load(tmp_path)
    assert isinstance(study, StudySpec)
    rows = [(run.size, run.multiple, run.axes["prediction"], run.axes["seed"]) for run in study.runs]
    combinations = [(p, s) for p in ("velocity", "clean") for s in ("0", "1")]
    assert rows == [
        (size, multiple, *axes) for size, multiple in (("w32d2", 1), ("w48d2", 0.25)) for axes in combinations
    ]
    for run in study.runs:
        assert run.spec.dit.prediction == run.axes["prediction"]
        assert str(run.spec.seed) == run.axes["seed"]
        assert run.spec.flop_budget == 4e9 * run.multiple
        assert f"w{run.spec.dit.width}d{run.spec.dit.depth}" == run.size
    stages = possible_stages(study, StageBuilder.for_sweep(study)).values()
    assert sum(stage.kind == "dit" for stage in stages) == 8
    assert sum(stage.kind == "vae" for stage in stages) == 1
    assert {stage.compute for stage in stages if stage.kind == "dit"} == {"base", "0.25x"}


def test_a_run_of_a_study_is_the_run_that_a_ladder_has(tmp_path):
    """The same spec is never trained twice."""
    study, ladder = load(tmp_path, vary={}), load_sweep("tiny")
    own = {stage.id for stage in possible_stages(study, StageBuilder.for_sweep(study)).values() if stage.kind == "dit"}
    shared = own & set(possible_stages(ladder, StageBuilder.for_sweep(ladder)))
    assert len(own) == 2
    assert len(shared) == 1  # 0.25x is not in the ladder


def test_any_field_of_a_run_can_be_varied(tmp_path):
    """Data, VAE and text too: each has stages of its own, made once."""
    vary = {"data.holdout_every": [4, 5], "vae": ["tiny"], "text.max_tokens": [8, 16], "evaluation.val_times": [2]}
    study = load(tmp_path, vary=vary, runs=STUDY["runs"][:1])
    stages = possible_stages(study, StageBuilder.for_sweep(study)).values()
    counts = {kind: sum(stage.kind == kind for stage in stages) for kind in ("data", "vae", "latents", "dit")}
    assert counts == {"data": 2, "vae": 2, "latents": 4, "dit": 4}
    assert {stage.fields_as(DiTFields).evaluation.val_times for stage in stages if stage.kind == "dit"} == {2}
    assert all(line.n_params and line.hours for line in plan(study).runs)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"vary": {"dit.predicton": ["clean"]}}, "dit.predicton: unknown field; did you mean 'prediction'?"),
        ({"vary": {"optim.muon_lr": [-5]}}, "optim.muon_lr: Input should be greater than 0 (found -5)"),
        ({"vary": {"seed": []}}, "vary.seed: has no value"),
        ({"vary": {"seed": [0, 0]}}, "runs.1: is the same run as runs.0"),
        ({"vary": {"vae.patch.x": [1]}}, "vary.vae.patch.x: vae.patch.x: 'patch' is 8, which has no fields"),
        ({"runs": [{"size": "w32d2"}]}, "runs.0: give exactly one of 'multiple' and 'steps'"),
        ({"runs": [{"size": "w33d2", "multiple": 1}]}, "runs.0: size: width 33 is not a multiple of 16"),
        ({"dit": {"width": 96}}, "dit.width: the runs name the sizes; leave it out"),
        ({"extends": "nothing"}, "nothing: no such sweep; shipped ones:"),
        ({"extends": "study.yaml"}, "extends itself"),
    ],
)
def test_a_study_names_file_and_field(tmp_path, changes, message):
    with pytest.raises(UserError) as error:
        load(tmp_path, **changes)
    assert message in str(error.value)
    assert "\n" not in str(error.value)


def test_fields_can_be_set_from_outside(tmp_path):
    assert all(run.spec.optim.adamw_lr == 0.01 for run in load(tmp_path, {"optim.adamw_lr": 0.01}).runs)
    ladder = load_sweep("tiny", {"optim.adamw_lr": 0.01, "evaluation.val_times": 3, "vae": "tiny"})
    assert (ladder.optim.adamw_lr, ladder.evaluation.val_times, ladder.vae.patch) == (0.01, 3, 4)
    with pytest.raises(UserError, match=r"--set optim.adam_lr: unknown field; did you mean 'adamw_lr'"):
        load_sweep("tiny", {"optim.adam_lr": 1})


def test_updates_in_place_of_a_multiple():
    """Models of every size take as many steps as they are asked for."""
    study = load_sweep("transfer")
    assert {(line.size, line.steps) for line in plan(study).runs} == {
        (size, 250) for size in ("w32d2", "w64d2", "w128d2")
    }


def test_a_python_function_returns_runs(tmp_path):
    (tmp_path / "rates.py").write_text(
        "from sweeps.load import load_sweep\n"
        "from sweeps.ladder import ladder_runs\n\n"
        "def sweep():\n"
        "    base = ladder_runs(load_sweep('tiny'))[0]\n"
        "    rates = (0.001, 0.002)\n"
        "    optims = [base.spec.optim.replace(adamw_lr=rate) for rate in rates]\n"
        "    specs = [base.spec.replace(optim=optim) for optim in optims]\n"
        "    return [base.replace(spec=spec, axes={'rate': f'{spec.optim.adamw_lr:g}'}) for spec in specs]\n\n"
        "def specs():\n"
        "    return [run.spec for run in sweep()]\n\n"
        "def nothing():\n"
        "    return 3\n"
    )
    path = str(tmp_path / "rates.py")
    study = load_sweep(path)
    assert [run.axes for run in study.runs] == [{"rate": "0.001"}, {"rate": "0.002"}]
    assert study.name == "rates"
    assert len(load_sweep(f"{path}:specs", {"optim.muon_lr": 0.5, "hardware.jobs": 1}).runs) == 2
    assert load_sweep(path, {"optim.muon_lr": 0.5}).runs[0].spec.optim.muon_lr == 0.5
    for function, message in (
        ("nothing", "returned int, expected a sweep or a list of runs"),
        ("x", "no function 'x'"),
    ):
        with pytest.raises(UserError, match=message):
            load_sweep(f"{path}:{function}")


def test_a_study_is_run_to_its_rows(tmp_path, capsys):
    """With planted losses, and one run that diverged."""

    def loss(N, C, optim):
        return None if optim.muon_lr > 1 else law(N, C, optim) * (1.1 if optim.muon_lr > 0.5 else 1.0)

    vary = {"rate": {"low": {}, "high": {"optim.muon_lr": 0.9}, "wild": {"optim.muon_lr": 2.0}}, "seed": [0, 1]}
    study = load(tmp_path, vary=vary)
    controller, out = Controller(study, tmp_path / "out"), tmp_path / "out"
    titles = []
    while ready := controller.next():
        titles.append(ready.title)
        complete(ready.stages, out / "runs", loss)
    assert titles == ["study: training"]
    result = controller.finish(("scaling run study",))
    assert [(row.axes["rate"], len(row.losses)) for row in result.rows] == [("low", 2), ("high", 2), ("wild", 2)] * 2
    assert [row.against_first for row in result.rows[:3]] == [0.0, pytest.approx(0.1), None]
    assert json.loads((out / "study.json").read_text())["rows"][1]["run_ids"] == list(result.rows[1].run_ids)
    assert (out / "report" / "index.html").exists()
    assert not (out / "prediction.json").exists()
    assert main(["run", str(tmp_path / "study.yaml"), "--out", str(out), "--set", "vary=" + json.dumps(vary)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[-1] for line in lines[1:4]] == ["+0.0%", "+10.0%", "-"]


def test_losses_of_other_vaes_are_not_compared():
    records = [
        RunRecord(run_id=name, stage="dit", size="w32d2", vae_id=name, axes={"vae": name}, metrics=()) for name in "ab"
    ]
    assert [row.against_first for row in study_rows(records)] == [None, None]


def test_a_study_that_was_submitted_is_read_back(tmp_path):
    study = load(tmp_path)
    from slurm.cluster import load_cluster

    request = Request(sweep=study, cluster=load_cluster("h100"), command="scaling submit study.yaml")
    assert Request.model_validate_json(request.model_dump_json()) == request


def test_the_shipped_ablation_changes_one_thing_at_a_time_at_equal_compute():
    study = load_sweep("ablation")
    for size, multiple in (("w64d2", 1), ("w96d3", 4)):
        runs = [run for run in study.runs if run.size == size]
        assert {run.multiple for run in runs} == {multiple}
        first = next(run for run in runs if run.spec.seed == 0)
        changed = [
            {
                f"{section}.{name}"
                for section in ("dit", "optim")
                for name, value in getattr(run.spec, section)
                if value != getattr(getattr(first.spec, section), name)
            }
            for run in runs
        ]
        assert changed[:2] == [set(), set()]
        assert all(fields <= {"optim.optimizer", "optim.adamw_lr"} or len(fields) == 1 for fields in changed[2:])
        assert {run.spec.flop_budget for run in runs} == {first.spec.flop_budget}


def test_a_ladder_below_the_base_with_columns_of_its_own(tmp_path):
    document = load_yaml(shipped_sweeps()["tiny"])
    document |= {"ladder": {0.25: ["w32d2", "w48d2"], 1: ["w32d2", "w48d2"], 2: ["w32d2", "w64d2"]}, "target": 8}
    path = tmp_path / "below.yaml"
    for columns, expected in (([], ["0.25x", "2x", "8x"]), ([1], ["base", "8x"]), ([2, 0.25], ["0.25x", "2x", "8x"])):
        path.write_text(yaml.safe_dump({**document, "columns": columns}))
        sweep, out = load_sweep(str(path)), tmp_path / f"out-{len(columns)}"
        controller = Controller(sweep, out)
        while ready := controller.next():
            complete(ready.stages, out / "runs")
        assert [column.run.compute for column in controller.finish(()).columns] == expected
        assert StageFolder(next(iter(out.glob("runs/dit-*")))).stage().multiple in (0.25, 1, 2, 8)
