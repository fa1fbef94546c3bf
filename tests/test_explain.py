"""Why a stage has to be done is said by the field that changed, its own or a parent's, once for all that hang on it."""

import json
import shutil

import pytest

from scaling.cli.main import main
from scaling.core.attempts import attempts
from scaling.core.errors import UserError
from scaling.core.identity import RECIPE_VERSION, stage_id
from scaling.core.specs import DataSpec
from scaling.core.stage_folder import StageFolder
from scaling.core.store import read_document, write_document
from sweeps.explain import Explainer, explain
from sweeps.load import load_sweep
from sweeps.phases import planned_phases, possible_stages
from sweeps.stages import StageBuilder
from tests.planted import complete
from tests.sweep_stages import run_stage

TINY = load_sweep("tiny")


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """The folders of the sweep `tiny`, all of it complete."""
    runs = tmp_path_factory.mktemp("finished") / "runs"
    complete(planned_phases(TINY, runs).stages.values(), runs)
    return runs


def changed(**sections):
    """The sweep with other values in some of its sections."""
    updates = {}
    for section, fields in sections.items():
        updates[section] = getattr(TINY, section).replace(**fields) if isinstance(fields, dict) else fields
    return TINY.replace(**updates)


def kinds_by_reason(sweep, runs):
    """Reason -> the kinds that have it."""
    causes = explain(planned_phases(sweep, runs).stages, runs)
    return {cause.reason: sorted({stage.kind for stage in cause.stages}) for cause in causes}


def id_of(runs, kind):
    return next(path.name for path in runs.iterdir() if path.name.startswith(f"{kind}-"))


def test_what_is_complete_needs_no_reason(finished):
    assert kinds_by_reason(TINY, finished) == {}


@pytest.mark.parametrize(
    ("sections", "reasons"),
    [
        (
            {"data": {"worlds": TINY.data.worlds.replace(seed=7)}},
            {
                "changed: data.worlds.seed 0 -> 7": ["data"],
                "its data changed: data.worlds.seed 0 -> 7": [
                    "dit",
                    "latents",
                    "metrics",
                    "reconstruction",
                    "reference",
                    "vae",
                ],
            },
        ),
        (
            {"vae_train": {"steps": 50, "seed": 1}},
            {
                "changed: train.steps 40 -> 50, train.seed 0 -> 1": ["vae"],
                "its vae changed: train.steps 40 -> 50, train.seed 0 -> 1": [
                    "dit",
                    "latents",
                    "metrics",
                    "reconstruction",
                ],
            },
        ),
        (
            {"text": {"max_tokens": 20}},
            {
                "changed: text.max_tokens 16 -> 20": ["latents"],
                "its latents changed: text.max_tokens 16 -> 20": ["dit", "metrics"],
            },
        ),
        (
            {"optim": {"muon_lr": 0.03}},
            {
                "changed: optim.muon_lr 0.02 -> 0.03": ["dit"],
                "its dit changed: optim.muon_lr 0.02 -> 0.03": ["metrics"],
            },
        ),
        (
            {"vae_train": {"steps": 50}, "optim": {"muon_lr": 0.03}},
            {
                "changed: train.steps 40 -> 50": ["vae"],
                "its vae changed: train.steps 40 -> 50": ["latents", "reconstruction"],
                "changed: optim.muon_lr 0.02 -> 0.03; its vae changed: train.steps 40 -> 50": ["dit"],
                "its dit changed: optim.muon_lr 0.02 -> 0.03; its vae changed: train.steps 40 -> 50": ["metrics"],
            },
        ),
        (
            {"fvd": {"clips": 5}},
            {
                "changed: fvd.clips 4 -> 5": ["reference"],
                "its reference changed: fvd.clips 4 -> 5": ["metrics", "reconstruction"],
            },
        ),
        (
            {"evaluation": {"prompts": ("a", "b"), "sample_at": (0.25, 1.0)}},
            {
                'changed: evaluation.prompts [] -> ["a", "b"], evaluation.sample_at.0 0.5 -> 0.25': ["dit", "metrics"],
            },
        ),
        (
            {"base_flops": 8e9},
            {
                "changed: flop_budget 4e+09 -> 8e+09": ["dit"],
                "changed: flop_budget 1.6e+10 -> 3.2e+10": ["dit"],
                "changed: flop_budget 1.28e+11 -> 2.56e+11": ["dit"],
                "its dit changed: flop_budget 4e+09 -> 8e+09": ["metrics"],
                "its dit changed: flop_budget 1.6e+10 -> 3.2e+10": ["metrics"],
                "its dit changed: flop_budget 1.28e+11 -> 2.56e+11": ["metrics"],
            },
        ),
    ],
    ids=["data", "vae", "text", "rates", "vae and rates", "fvd", "evaluation", "budget"],
)
def test_the_field_that_changed_is_named_and_once_for_all_that_hang_on_it(finished, sections, reasons):
    assert kinds_by_reason(changed(**sections), finished) == reasons


def test_a_line_counts_stages_and_names_what_they_were_compared_with(finished):
    causes = explain(planned_phases(changed(optim={"muon_lr": 0.03}), finished).stages, finished)
    (runs, metrics) = map(str, causes)
    assert runs.startswith("7 dit stages: changed: optim.muon_lr 0.02 -> 0.03 (against dit-")
    assert runs.endswith(" and 6 others)")
    assert metrics.startswith("3 metrics stages: its dit changed: optim.muon_lr")
    vae, rest = map(str, explain(planned_phases(changed(vae_train={"steps": 50}), finished).stages, finished))
    assert vae.endswith(f"changed: train.steps 40 -> 50 (against {id_of(finished, 'vae')})")
    assert rest.startswith("12 stages (1 latents, 1 reconstruction, 7 dit, 3 metrics): its vae changed")
    assert rest.endswith(f"(against {id_of(finished, 'vae')})")


def test_a_new_size_and_a_new_budget_are_new_and_not_changed(finished):
    sweep = TINY.replace(ladder={**TINY.ladder, 1: ("w32d2", "w48d2", "w64d2", "w96d2"), 8: ("w48d2",)})
    why = Explainer(possible_stages(sweep, StageBuilder.for_sweep(sweep)), finished).explain
    for multiple, size in ((1, "w96d2"), (8, "w48d2")):
        assert [reason.text for reason in why(run_stage(sweep, multiple, size).id).reasons] == [
            "new: nothing like it on disk"
        ]


def test_runs_that_branch_now_say_so(finished):
    optim = {"warmup_steps": 2, "decay_fraction": 0.25}
    sweep = changed(optim=optim, branches=True)
    reasons = kinds_by_reason(sweep, finished)
    assert reasons["new: nothing like it on disk"] == ["trunk"]
    assert any(
        "a trunk to go on from" in reason and "optim.decay_fraction 0.95 -> 0.25" in reason for reason in reasons
    )


def with_recipe(finished, runs, recipe, *, written):
    """The folders as an earlier recipe would have named them."""
    renamed = {}
    while len(renamed) < len(list(finished.iterdir())):
        for path in finished.iterdir():
            spec = read_document(path / "spec.json")
            if path.name in renamed or not set(spec["parents"].values()) <= renamed.keys():
                continue
            parents = {role: renamed[parent] for role, parent in spec["parents"].items()}
            name = renamed[path.name] = stage_id(spec["slug"], spec["fields"], parents, recipe)
            shutil.copytree(path, runs / name)
            spec |= {"id": name, "parents": parents, "recipe": recipe}
            if not written:
                del spec["recipe"]
            write_document(runs / name / "spec.json", spec)
    return renamed


@pytest.mark.parametrize("written", [True, False], ids=["written", "from before it was written"])
def test_another_recipe_is_one_line_for_everything(finished, tmp_path, written):
    runs = tmp_path / "runs"
    renamed = with_recipe(finished, runs, RECIPE_VERSION - 1, written=written)
    (cause,) = explain(planned_phases(TINY, runs).stages, runs)
    assert cause.reason == f"recipe version {RECIPE_VERSION - 1} -> {RECIPE_VERSION}"
    assert len(cause.stages) == len(renamed) == 15
    with pytest.raises(UserError, match=f"made by recipe version {RECIPE_VERSION - 1}, but this code has version"):
        StageFolder(runs / renamed[id_of(finished, "vae")]).stage()
    reasons = kinds_by_reason(changed(vae_train={"steps": 50}), runs)
    assert f"changed: train.steps 40 -> 50; recipe version {RECIPE_VERSION - 1} -> {RECIPE_VERSION}" in reasons


def test_a_spec_says_by_which_recipe_it_was_made_and_one_that_was_edited_is_not_believed(finished, tmp_path):
    folder = StageFolder(shutil.copytree(finished / id_of(finished, "vae"), tmp_path / id_of(finished, "vae")))
    document = read_document(folder.spec_path)
    assert document["recipe"] == RECIPE_VERSION
    assert folder.described() == (folder.stage(), RECIPE_VERSION)
    del document["recipe"]
    write_document(folder.spec_path, document)  # as older code left it
    assert folder.described() == (folder.stage(), RECIPE_VERSION)
    document["fields"]["train"]["steps"] = 41
    write_document(folder.spec_path, document)
    assert folder.described()[1] is None
    with pytest.raises(UserError, match="was it edited"):
        folder.stage()


def test_videos_and_captions_that_changed_are_not_a_hash(tmp_path):
    videos, runs = tmp_path / "videos", tmp_path / "runs"
    videos.mkdir()
    (videos / "a.mp4").write_bytes(b"hashed, not opened")
    sweep = TINY.replace(data=DataSpec(folder=str(videos)))
    complete(planned_phases(sweep, runs).stages.values(), runs)
    assert kinds_by_reason(sweep, runs) == {}
    shutil.move(videos, tmp_path / "elsewhere")
    sweep = TINY.replace(data=DataSpec(folder=str(tmp_path / "elsewhere")))
    assert kinds_by_reason(sweep, runs) == {}  # the same videos
    (tmp_path / "elsewhere" / "b.mp4").write_bytes(b"one more")
    reasons = kinds_by_reason(sweep, runs)
    assert reasons.pop("changed: its videos or captions") == ["data"]
    assert list(reasons) == ["its data changed: its videos or captions"]


def make_attempt(runs, stage, done=None, **end):
    """A folder that somebody has worked in."""
    folder = StageFolder.create(runs, stage)
    events = folder.claim_attempt("17_3")
    if done is not None:
        events.log(begun=0, total=800)
        events.log(done=done, total=800, loss=0.5)
    if end:
        events.log(**end)
    return folder


def test_what_was_begun_is_unfinished_and_what_only_waits_is_not(finished, tmp_path):
    """A folder is made before work begins in it: alone it says nothing."""
    sweep, runs = changed(optim={"muon_lr": 0.03}), tmp_path / "runs"
    shutil.copytree(finished, runs)
    stage, waiting = (run_stage(sweep, 4, size) for size in ("w32d2", "w48d2"))
    make_attempt(runs, stage, 100, error="RuntimeError: broken", user_error=False)
    make_attempt(runs, stage)
    make_attempt(runs, stage, 400, stopped="SIGUSR1", out_of_time=True)
    StageFolder.create(runs, waiting)
    by_id = {
        explanation.id: cause.reason
        for cause in explain(planned_phases(sweep, runs).stages, runs)
        for explanation in cause.stages
    }
    assert by_id[stage.id] == "unfinished: 3 attempts, at 400 of 800, the last one out of time"
    assert by_id[waiting.id] == "changed: optim.muon_lr 0.02 -> 0.03"


def test_a_damaged_folder_of_another_spec_stops_nothing(finished, tmp_path):
    runs = tmp_path / "runs"
    shutil.copytree(finished, runs)
    (runs / id_of(runs, "vae") / "spec.json").write_text("{")
    (runs / "notes.txt").write_text("somebody's")
    reasons = kinds_by_reason(changed(vae_train={"steps": 50}), runs)
    assert reasons["new: nothing like it on disk"] == ["vae"]
    assert any(reason.startswith(f"changed: vae {id_of(runs, 'vae')} -> ") for reason in reasons)


def answer(capsys, *arguments):
    assert main(["explain", *map(str, arguments), "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def test_the_command_tells_everything_about_a_run(finished, tmp_path, capsys):
    shutil.copytree(finished, tmp_path / "runs")
    stage = run_stage(changed(optim={"muon_lr": 0.03}), 4, "w48d2")
    make_attempt(tmp_path / "runs", stage, 400, error="UserError: mend it", user_error=True)
    (document,) = answer(capsys, tmp_path, stage.id[:-4])["stages"]
    assert (document["id"], document["state"], document["compute"]) == (stage.id, "unfinished", "4x")
    (attempt,) = document["attempts"]
    assert (attempt["done"], attempt["total"], attempt["end"], attempt["job"]) == (400, 800, "user error", "17_3")
    assert attempt["started"] == attempts(StageFolder(tmp_path / "runs" / stage.id))[0].started
    assert set(document["waits_for"].values()) == {"complete"}
    assert document["waited_for_by"] == {}
    assert main(["explain", str(tmp_path), stage.id, "--sweep", "tiny"]) == 0
    shown = capsys.readouterr().out
    assert "400 of 800, user error (UserError: mend it)" in shown
    assert "changed: optim.muon_lr 0.03 -> 0.02" in shown
    (vae,) = answer(capsys, tmp_path, "vae", "--sweep", "tiny")["stages"]
    assert vae["now"] == {"id": vae["id"], "changes": []}
    assert set(vae["waited_for_by"]) == {
        path.name for path in (tmp_path / "runs").iterdir() if vae["id"] in (path / "spec.json").read_text()
    } - {vae["id"]}


def test_the_command_finds_runs_by_slug_and_compute_and_asks_where_a_name_is_several(finished, capsys):
    out = finished.parent
    (document,) = answer(capsys, out, "dit-w48d2@4x")["stages"]
    assert document["id"] == run_stage(TINY, 4, "w48d2").id
    assert main(["explain", str(out), "dit-w48d2"]) == 2
    assert document["id"] in capsys.readouterr().err
    assert main(["explain", str(out), "dit-w48d2@5x"]) == 2
    assert "no stage 'dit-w48d2@5x'" in capsys.readouterr().err
    assert main(["explain", str(out / "runs")]) == 2
    assert "no such folder" in capsys.readouterr().err


def test_the_command_lists_what_is_not_complete(finished, tmp_path, capsys):
    shutil.copytree(finished, tmp_path / "runs")
    assert answer(capsys, tmp_path) == {"complete": 15, "incomplete": []}
    stage = run_stage(changed(optim={"muon_lr": 0.03}), 4, "w48d2")
    StageFolder.create(tmp_path / "runs", stage)
    assert answer(capsys, tmp_path)["incomplete"] == [{"id": stage.id, "state": "never tried", "text": "never tried"}]
    assert main(["explain", str(tmp_path), "--sweep", "tiny"]) == 0
    assert capsys.readouterr().out == "every stage is complete\n"
    assert main(["plan", "tiny", "--out", str(tmp_path), "--explain"]) == 0
    assert "Every stage is complete." in capsys.readouterr().out
