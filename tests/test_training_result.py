"""A training reports its numbers in one document, and the record is made from it without building the model again."""

import json

import pytest

from scaling.accounting import flops
from scaling.accounting.presets import VAE_PRESETS
from scaling.core.errors import UserError
from scaling.core.records import read_record
from scaling.core.specs import EngineSpec
from scaling.core.stage_fields import DiTFields
from scaling.core.stage_folder import StageFolder
from scaling.stages.dit_training import DiTTraining
from scaling.stages.run import run_stage
from scaling.stages.training_result import DiTTrainingResult, TrainingResult
from tests.tiny_run import make_run


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A `dit` stage whose parents are complete."""
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    return make_run(tmp_path, optimizer="adamw", flop_budget=3e8, sample_at=(1.0,))


def test_the_record_is_made_from_the_result(folder, monkeypatch):
    """The training is set up once, and the numbers of the model are those of the closed forms."""
    set_up, calls = DiTTraining.set_up, []
    monkeypatch.setattr(DiTTraining, "set_up", lambda *args: calls.append(args) or set_up(*args))
    run_stage(str(folder.path))
    assert len(calls) == 1
    result, record = DiTTrainingResult.load(folder), read_record(folder.record_path)
    channels = VAE_PRESETS["tiny"].latent_channels
    groups = flops.dit_params(folder.stage().fields_as(DiTFields).dit, channels)
    assert (record.n_params, record.n_params_total) == (flops.non_embedding(groups), sum(groups.values()))
    assert (result.updates_done, result.diverged) == (record.steps, False)
    assert record.flops_per_second == pytest.approx(record.train_flops / record.steps / result.update_seconds)
    assert sorted(path.name for path in folder.path.glob("*.json")) == ["record.json", "spec.json", "training.json"]
    vae = TrainingResult.load(folder.parent("vae"))
    assert vae.n_params_total == flops.vae_params(VAE_PRESETS["tiny"])


def test_an_attempt_without_updates_keeps_the_measured_speed(folder):
    """An earlier attempt was killed after its training and before its record."""
    run_stage(str(folder.path))
    before = read_record(folder.record_path)
    for name in ("record.json", "COMPLETE"):
        (folder.path / name).unlink()
    run_stage(str(folder.path))
    after = read_record(folder.record_path)
    assert after.flops_per_second == before.flops_per_second
    assert after.metrics == before.metrics


def test_a_run_that_diverges_on_two_ranks_is_a_result(folder):
    stage = folder.stage()
    fields = stage.fields_as(DiTFields)
    rates = fields.optim.replace(adamw_lr=1e38, max_grad_norm=1e30)
    diverging = stage.replace(fields=fields.replace(optim=rates), engine=EngineSpec(processes=2))
    other = StageFolder.create(folder.path.parent, diverging)
    run_stage(str(other.path))
    record, result = read_record(other.record_path), DiTTrainingResult.load(other)
    assert result.diverged
    assert 0 < result.updates_done < result.steps
    assert (record.diverged_at, record.metrics, record.flops_per_second) == (result.updates_done, (), None)
    assert not (other.path / "model.safetensors").exists()


def test_a_damaged_result_is_a_user_error(folder):
    run_stage(str(folder.path))
    path = DiTTrainingResult.path(folder)
    path.write_text(json.dumps(json.loads(path.read_text()) | {"steps": "many"}))
    with pytest.raises(UserError, match=r"training.json: steps: .*found 'many'"):
        DiTTrainingResult.load(folder)
