"""Specs refuse what is wrong in one line, and their ids change exactly when their meaning does."""

import json
import math

import pytest
import yaml

from scaling.accounting import flops
from scaling.accounting.presets import dit_preset, family
from scaling.core.errors import UserError
from scaling.core.identity import canonical_json, stage_id
from scaling.core.specs import DataSpec, DiTSpec, EngineSpec, EvalSpec, WorldSpec, parse_spec
from scaling.core.stage import Stage
from scaling.core.stage_fields import DataFields
from scaling.core.stage_folder import StageFolder
from scaling.core.store import append_jsonl, read_jsonl, temporary, write_document
from sweeps.load import load_sweep
from tests.sweep_stages import ladder_stages, shared_stages


def mixed(change):
    """Worlds of two sizes, the second one changed."""
    size = {"frames": 17, "height": 64, "width": 64}
    return {"worlds": {"shapes": [size, size | change]}}


SIZES = ["w32d2", "w48d2", "w64d3"]


@pytest.mark.parametrize(
    ("document", "message"),
    [
        ({"worlds": {"cuont": 3}}, "a.yaml: worlds.cuont: unknown field; did you mean 'count'?"),
        ({"worlds": {"zzz": 3}}, "a.yaml: worlds.zzz: unknown field; known fields: count, seed"),
        ({"worlds": {"count": "many"}}, "a.yaml: worlds.count: Input should be a valid integer"),
        ({"worlds": {}, "frames": 16}, "a.yaml: frames is 16, but must be 1 + 4k, such as 17"),
        ({"worlds": {"width": 72}}, "a.yaml: worlds.width is 72, which 16 does not divide"),
        (mixed({"width": 72}), "a.yaml: worlds.shapes.1.width is 72, which 16 does not divide"),
        (mixed({"width": 96}), "a.yaml: worlds.shapes.1 is 96x64, 6144 pixels, but 'pixels' is 4096: raise it"),
        (mixed({"frames": 1}), "a.yaml: worlds.shapes.1.frames is 1, an image: set 'images' to true to count it"),
        (mixed({"frames": 3}), "a.yaml: worlds.shapes.1.frames is 3, but a clip has 1 frame or at least 5"),
        (mixed({"hieght": 3}), "a.yaml: worlds.shapes.1.hieght: unknown field; did you mean 'height'?"),
        (mixed({}), "a.yaml: holdout_every is 16, which would hold out only some of the 2 worlds.shapes: give"),
        ({}, "a.yaml: give exactly one of 'worlds' and 'folder'"),
        ([1], "a.yaml: expected a mapping of fields, found list"),
    ],
)
def test_one_clear_line(document, message):
    with pytest.raises(UserError) as error:
        parse_spec(DataSpec, document, "a.yaml")
    assert str(error.value).startswith(message)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"ladder": {1: SIZES, 4: ["w65d3"]}}, "ladder.4: width 65 is not a multiple of 16"),
        ({"columns": [2]}, "columns: 2 is not a multiple of the ladder, which has 1, 4"),
        ({"dit": {"width": 96}}, "dit.width: the ladder and target_sizes name the sizes; leave it out"),
        ({"ladder": {0: SIZES, 1: SIZES, 4: SIZES}}, "ladder: give multiples of the base budget, above 0"),
        ({"ladder": {1: ["w64d3", "w64d3"], 4: SIZES}}, "ladder.1: names a size twice"),
        ({"ladder": {1: ["w64d3"], 4: ["w64d3"]}}, "ladder: 2 runs, but a forecast needs 6"),
        ({"fvd": {"frames": 33}}, "fvd.frames is 33, but clips have at most data.frames 17"),
        ({"data": {"folder": 3}}, "data.folder: Input should be a valid string"),
        ({"base_flops": float("inf")}, "base_flops: Input should be a finite number"),
        ({"target": 4}, "target is 4, but the ladder already trains at 4"),
        ({"vae": "huge"}, "vae: unknown preset 'huge'; known: tiny, small, small16, base, base16"),
        ({"data": {"worlds": {"width": 72, "height": 72}, "multiple": 24}}, "data.multiple is 24"),
        ({"vae_train": {"crop": 30}}, "vae_train.crop is 30, which the VAE stride 8 does not divide"),
        ({"base_flops": "lots"}, "base_flops: Input should be a valid number"),
    ],
)
def test_a_sweep_names_file_and_field(tmp_path, change, message):
    path = tmp_path / "my.yaml"
    sweep = {
        "name": "my",
        "data": {"worlds": {}},
        "vae": "tiny",
        "base_flops": 1e9,
        "ladder": {1: SIZES, 4: SIZES},
        "target_sizes": ["w64d3"],
    }
    path.write_text(yaml.safe_dump(sweep | change))
    with pytest.raises(UserError) as error:
        load_sweep(str(path))
    assert str(error.value).startswith(str(path))
    assert message in str(error.value)
    assert "\n" not in str(error.value)


def test_shipped_sweeps_load_and_have_distinct_runs():
    for name in ("demo", "tiny", "native", "base_4x_32x"):
        sweep = load_sweep(name)
        ids = [stage.id for stage in ladder_stages(sweep)]
        assert len(set(ids)) == len(ids)
    with pytest.raises(UserError, match=r"no such sweep; shipped ones: .*demo"):
        load_sweep("nothing")


def test_dit_and_eval_specs_check_themselves():
    with pytest.raises(ValueError, match="width is 100, which head_dim 32 does not divide"):
        DiTSpec(width=100)
    with pytest.raises(ValueError, match="end at 1"):
        EvalSpec(sample_at=(0.1, 0.5))


def test_one_dial_from_a_tenth_of_a_million_to_ten_billion():
    sizes = [flops.non_embedding(flops.dit_params(dit, 16)) for dit in family()]
    assert sizes == sorted(sizes)
    assert sizes[0] < 1e5
    assert sizes[-1] > 1e10
    assert all(30 <= dit.width / dit.depth <= 32 for dit in family() if dit.width >= 64)
    for expected, name in ((1e5, "100k"), (1.3e6, "1.3M"), (1e10, "10B")):
        n_params = flops.non_embedding(flops.dit_params(dit_preset(name), 16))
        assert abs(math.log(n_params / expected)) < 0.15
    assert (dit_preset("XL").width, dit_preset("XL").depth, dit_preset("XL").heads) == (1152, 28, 16)
    assert dit_preset("w96d3") == DiTSpec(width=96, depth=3, head_dim=32)
    for name in ("XXL", "w50d2", "3T", "900B"):
        with pytest.raises(ValueError, match=r"unknown model size|multiple of 16|outside the ladder"):
            dit_preset(name)


def test_canonical_json_is_one_text_for_one_value():
    assert canonical_json({"b": (1, 2.5), "a": None}) == '{"a":null,"b":[1,2.5]}'
    assert canonical_json(DataSpec(folder="x")) == canonical_json(DataSpec(folder="x").model_dump())
    with pytest.raises(ValueError, match="no place"):
        canonical_json({"x": float("nan")})
    with pytest.raises(TypeError, match="no canonical text"):
        canonical_json({"x": {1, 2}})


def test_ids_change_with_meaning_and_not_with_placement():
    spec = DataSpec(worlds=WorldSpec())
    stage = Stage(slug="data", fields=DataFields(data=spec), parents={})
    elsewhere = {"engine": EngineSpec(threads=8), "sweep": "other"}
    assert stage.id == Stage(slug="data", fields=DataFields(data=spec), parents={}, **elsewhere).id
    changed = DataSpec(worlds=WorldSpec(seed=1))
    assert stage.id != Stage(slug="data", fields=DataFields(data=changed), parents={}).id
    assert stage_id("x", {"a": 1}, {"vae": "v-1"}) != stage_id("x", {"a": 1}, {"vae": "v-2"})


def test_a_changed_vae_moves_every_run_after_it():
    sweep = load_sweep("demo")
    other = sweep.replace(vae_train=sweep.vae_train.replace(steps=7))
    before, after = (ladder_stages(variant) for variant in (sweep, other))
    assert not {stage.id for stage in before} & {stage.id for stage in after}
    assert shared_stages(sweep).data.id == shared_stages(other).data.id


def test_a_stage_folder_gives_back_its_stage(tmp_path):
    stage = Stage(slug="data", fields=DataFields(data=DataSpec(worlds=WorldSpec())), parents={})
    folder = StageFolder.create(tmp_path, stage)
    assert folder.stage() == stage
    assert not folder.complete
    folder.finish()
    assert folder.complete
    folder.spec_path.write_text("{")
    with pytest.raises(UserError, match="not valid JSON"):
        folder.stage()


def test_an_edited_stage_is_refused_and_a_moved_one_is_not(tmp_path):
    stage = Stage(slug="data", fields=DataFields(data=DataSpec(folder="."), manifest="m"), parents={}, folder="/a")
    folder = StageFolder.create(tmp_path, stage)
    moved = stage.replace(folder="/b")
    assert StageFolder.create(tmp_path, moved).stage().folder == "/b"
    folder.spec_path.write_text(folder.spec_path.read_text().replace('"manifest": "m"', '"manifest": "n"'))
    with pytest.raises(UserError, match="was it edited"):
        StageFolder.create(tmp_path, stage)


def test_what_killed_writers_left_goes_when_a_stage_is_entered(tmp_path):
    folder = StageFolder.create(
        tmp_path, Stage(slug="data", fields=DataFields(data=DataSpec(worlds=WorldSpec())), parents={})
    )
    kept = [folder.path / name for name in ("videos/000000.mp4", "videos/.hidden.mp4", "checkpoints/step-00000003/x")]
    being_planned = temporary(folder.spec_path)  # a spec is written without the lock
    left = [temporary(path) for path in (kept[0], folder.record_path, folder.path / "COMPLETE")]
    left_folder = temporary(folder.path / "checkpoints" / "step-00000006")
    for path in (*kept, being_planned, *left, temporary(left_folder / "manifest.json")):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x")
    with folder.exclusive():
        assert not any(path.exists() for path in (*left, left_folder))
        assert all(path.exists() for path in (*kept, being_planned))


def test_the_same_videos_elsewhere_are_the_same_data(tmp_path):
    ids = []
    for name in ("here", "there"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "a.mp4").write_bytes(b"the same")
        sweep = load_sweep("demo").replace(data=DataSpec(folder=str(tmp_path / name)))
        ids.append(shared_stages(sweep).latents.id)
    assert ids[0] == ids[1]


def test_a_shipped_sweep_is_found_beside_a_folder_of_its_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "demo").mkdir()
    assert load_sweep("demo").name == "demo"


def test_a_torn_tail_is_normal_and_a_torn_middle_is_not(tmp_path):
    path = tmp_path / "log.jsonl"
    for number in range(3):
        append_jsonl(path, {"n": number})
    content = path.read_bytes()
    path.write_bytes(content[:-4])
    assert read_jsonl(path) == [{"n": 0}, {"n": 1}]
    path.write_bytes(content.replace(b'"n": 1', b'"n'))
    with pytest.raises(UserError, match=r"log.jsonl:2: broken line"):
        read_jsonl(path)


def test_documents_appear_whole_or_not_at_all(tmp_path):
    path = tmp_path / "doc.json"
    write_document(path, {"a": 1})
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_document(path, {"a": float("nan")})
    assert json.loads(path.read_text()) == {"a": 1}
    assert [entry.name for entry in tmp_path.iterdir()] == ["doc.json"]
