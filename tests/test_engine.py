"""The engine's settings do not change the result of a training: ranks, sharding, accumulation, activation checkpointing
and data-loading workers."""

import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch._dynamo.utils import counters

from scaling.core.errors import StageError, UserError
from scaling.core.records import read_record
from scaling.core.specs import EngineSpec
from scaling.diffusion.flow import seeded_noise
from scaling.diffusion.latents import LatentSet, LatentWriter
from scaling.distributed.ranks import run_together
from scaling.models.dit import DiT
from scaling.stages.run import run_stage
from scaling.text.encoded_captions import EncodedCaptions
from scaling.training import checkpoints
from scaling.training.batches import FlowBatches
from scaling.training.dit import DiTModule
from scaling.training.engine import prepare
from tests.engine_ranks import DIT, EVERY, OPTIM, STEPS, WHOLE, train, train_vae, weights
from tests.tiny_run import make_run, write_latents

ONE = EngineSpec()


@pytest.fixture(scope="module")
def latents(tmp_path_factory):
    folder = tmp_path_factory.mktemp("latents")
    write_latents(folder)
    return folder


@pytest.fixture(scope="module")
def two_ranks(latents, tmp_path_factory):
    """The output folder of `engine_ranks` with two ranks. It runs once for all tests, because it is slow."""
    out = tmp_path_factory.mktemp("two")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OMP_NUM_THREADS", "1")
        patch.setenv("CUDA_VISIBLE_DEVICES", "")
        run_together([sys.executable, "-m", "tests.engine_ranks", str(latents), str(out)], 2, out / "logs")
    return out


@pytest.fixture(scope="module")
def one_rank(latents, tmp_path_factory):
    """A function that returns the state that one process ends with, by optimizer and precision."""
    made = {}

    def get(optimizer="adamw", precision="fp32"):
        if (optimizer, precision) not in made:
            folder = tmp_path_factory.mktemp("one")
            made[optimizer, precision] = weights(train(latents, folder, ONE, optimizer, precision))
        return made[optimizer, precision]

    return get


def difference(actual, expected, group):
    """The largest difference between the tensors of a group of the state."""
    assert actual.keys() == expected.keys()
    return max((actual[name] - expected[name]).abs().max().item() for name in actual if name.startswith(group))


@pytest.mark.parametrize("name", WHOLE)
def test_two_ranks_do_what_one_does(two_ranks, one_rank, name):
    how = {key: value for key, value in WHOLE[name].items() if key != "engine"}
    actual, expected = load_file(two_ranks / f"{name}.safetensors"), one_rank(**how)
    rounded = how.get("precision") == "bf16"
    assert difference(actual, expected, "adamw/") < (1e-4 if rounded else 1e-6)
    # Muon orthogonalizes what is rounded to bfloat16, so that the last bit of a gradient can change the third digit.
    muon = how.get("optimizer") == "muon"
    for group in ("weights/", "ema-0.1/", "ema-0.05/"):
        assert difference(actual, expected, group) < (1e-2 if rounded else 1e-5)
    if muon:
        assert difference(actual, expected, "muon/") < (1e-5 if rounded else 1e-7)


def test_two_ranks_train_a_vae_and_its_opponent_as_one_does(two_ranks, tmp_path):
    """After one update, the optimizers' moments are the gradients."""
    actual, expected = load_file(two_ranks / "vae.safetensors"), weights(train_vae(tmp_path))
    for group in ("muon/", "adamw/", "discriminator-adamw/"):
        assert max(value.abs().max() for name, value in expected.items() if name.startswith(group)) > 1e-4
        assert difference(actual, expected, group) < 1e-6


@pytest.mark.parametrize("name", ["ddp-bf16", "fsdp-muon"])
def test_two_ranks_interrupted_equal_two_uninterrupted(two_ranks, name):
    actual, expected = load_file(two_ranks / f"{name}-killed.safetensors"), load_file(two_ranks / f"{name}.safetensors")
    assert all(torch.equal(actual[key], expected[key]) for key in expected)


def test_ranks_that_divide_a_model_leave_a_checkpoint_that_one_process_goes_on_from(two_ranks, one_rank, latents):
    left = two_ranks / "fsdp-muon-left"
    (newest,) = [path for path in (left / "checkpoints").glob("step-*") if path.name.endswith(str(4))]
    parts = sorted(path.name for path in newest.glob("weights.*"))
    assert parts == ["weights.0-of-2.safetensors", "weights.1-of-2.safetensors"]
    assert "blocks.0.qkv.weight" in load_file(newest / parts[0]).keys() & load_file(newest / parts[1]).keys()
    resumed = weights(train(latents, left, ONE, "muon"))
    assert difference(resumed, one_rank("muon"), "weights/") < 1e-2
    assert difference(resumed, one_rank("muon"), "muon/") < 1e-7
    assert difference(resumed, load_file(two_ranks / "fsdp-muon.safetensors"), "weights/") < 1e-2


def test_a_checkpoint_that_lacks_the_shards_of_a_rank_is_not_loaded(two_ranks):
    folder = two_ranks / "fsdp" / "checkpoints"
    stems = {path.name.split(".")[0] for path in folder.glob("*/*.safetensors")} - {"ema-0"} | {"ema-0.1", "ema-0.05"}
    assert checkpoints.load_newest(folder, stems)[0] == STEPS
    (folder / f"step-{STEPS:08d}" / "adamw.1-of-2.safetensors").unlink()
    step, _, problems = checkpoints.load_newest(folder, stems)
    assert step == STEPS - EVERY
    assert "adamw.1-of-2" in problems[0]


def test_accumulation_adds_up_to_the_whole_batch(latents, one_rank, tmp_path):
    actual = weights(train(latents, tmp_path, ONE.replace(micro_tokens=12)))
    assert difference(actual, one_rank(), "weights/") < 1e-5
    assert difference(actual, one_rank(), "adamw/") < 1e-6


@pytest.mark.parametrize("change", [{"checkpoint_activations": True}, {"workers": 2}])
def test_recomputation_and_workers_change_no_bit(latents, one_rank, tmp_path, change):
    actual = weights(train(latents, tmp_path, ONE.replace(**change), "muon", "bf16"))
    expected = one_rank("muon", "bf16")
    assert all(torch.equal(actual[name], expected[name]) for name in expected)


@pytest.mark.slow
@pytest.mark.parametrize("checkpoint_activations", [False, True])
def test_compiled_blocks_compute_the_same(latents, checkpoint_activations):
    data = LatentSet(latents, held_out=False, patch=2)
    (batch,) = FlowBatches(data, DIT, OPTIM["muon"], 0)(0)
    torch._dynamo.reset()
    counters.clear()
    gradients = []
    for compiled in (False, True):
        torch.manual_seed(0)
        model = DiT(DIT, data.channels, data.text_dim)
        torch.nn.init.normal_(model.head.weight)  # or no gradient would reach the blocks
        prepare(model, model.blocks, EngineSpec(compile=compiled, checkpoint_activations=checkpoint_activations))
        DiTModule(model, OPTIM["muon"], STEPS).loss(batch, 0).backward()
        gradients.append({name: parameter.grad for name, parameter in model.named_parameters()})
    assert counters["frames"]["ok"] > 0
    for name, expected in gradients[0].items():
        torch.testing.assert_close(gradients[1][name], expected, rtol=1e-3, atol=1e-5)


@pytest.mark.slow
def test_compiled_blocks_are_not_compiled_anew_for_every_mixture(tmp_path):
    """torch.compile stops after eight programs: it only warns, and the rest of the training is not compiled."""
    writer = LatentWriter(tmp_path)
    for number in range(24):
        writer.add(seeded_noise((1 + number % 6, 4, 4, 3), 1, number), "", number % 6 == 5)
    mask = torch.ones(1, 4, dtype=torch.bool)
    writer.finish(EncodedCaptions(seeded_noise((1, 4, 384), 2), mask, seeded_noise((1, 384), 3)))
    data = LatentSet(tmp_path, held_out=False, patch=2)
    model = DiT(DIT, data.channels, data.text_dim)
    prepare(model, model.blocks, EngineSpec(compile=True))
    batches = FlowBatches(data, DIT, OPTIM["muon"], 0)
    torch._dynamo.reset()
    module, mixtures, compiled = DiTModule(model, OPTIM["muon"], STEPS), set(), []
    for step in range(12):
        (batch,) = batches(step)
        mixtures.add(tuple(batch.packed.grids))
        with torch.autocast("cpu", torch.bfloat16):
            module.loss(batch, step).backward()
        compiled.append(counters["stats"]["unique_graphs"])
    assert len(mixtures) > 8
    assert compiled[-1] == compiled[3]
    assert not counters["recompile_limit"]


def test_a_killed_rank_takes_the_others_down(tmp_path):
    code = "import os, time; os.environ['RANK'] == '1' and os.kill(os.getpid(), 9); time.sleep(600)"
    began = time.monotonic()
    with pytest.raises(StageError, match="rank 1 of 2 was killed by SIGKILL"):
        run_together([sys.executable, "-c", code], 2, tmp_path)
    assert time.monotonic() - began < 60


def test_the_user_error_of_a_rank_is_raised(tmp_path):
    code = "import os, sys, time; os.environ['RANK'] == '0' and (print('lower it') or sys.exit(2)); time.sleep(600)"
    with pytest.raises(UserError, match=r"^lower it$"):
        run_together([sys.executable, "-c", code], 2, tmp_path)


def test_ranks_die_with_the_process_that_started_them(tmp_path):
    rank = (
        "import os, pathlib, time; from scaling.distributed.ranks import exit_with_parent; exit_with_parent(); "
        f"pathlib.Path({str(tmp_path)!r}, os.environ['RANK']).write_text(str(os.getpid())); time.sleep(600)"
    )
    starter = (
        "import sys; from pathlib import Path; from scaling.distributed.ranks import run_together; "
        f"run_together([sys.executable, '-c', {rank!r}], 2, Path({str(tmp_path / 'logs')!r}))"
    )
    process = subprocess.Popen([sys.executable, "-c", starter], cwd=Path(__file__).parents[1])
    pids = [int(wait_for(lambda path=tmp_path / number: path.exists() and path.read_text())) for number in "01"]
    process.send_signal(signal.SIGKILL)
    process.wait()
    for pid in pids:
        wait_for(lambda pid=pid: not is_alive(pid))


def wait_for(condition):
    end = time.monotonic() + 60
    while not (actual := condition()):
        assert time.monotonic() < end
        time.sleep(0.05)
    return actual


def is_alive(pid):
    """Whether a process still runs. A zombie, which has ended without being waited for, does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_a_stage_trains_with_as_many_ranks_as_its_engine_wants(tmp_path, monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    engine = EngineSpec(processes=2, sharding="shard")
    folder = make_run(tmp_path, optimizer="muon", flop_budget=3e8, sample_at=(0.5, 1.0), engine=engine)
    run_stage(str(folder.path))
    assert folder.complete
    assert any(event.get("done") == event.get("total") for event in folder.events() if "done" in event)
    assert list(folder.path.glob("checkpoints/*/weights.1-of-2.safetensors"))
    assert len(list(folder.path.glob("samples/at-*/00.mp4"))) == 2
    record = read_record(folder.record_path)
    assert record.metric("val_loss").value == pytest.approx(2.0, abs=0.5)
    assert record.flops_per_second > 0
    assert record.engine == engine
