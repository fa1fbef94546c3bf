"""Training of the DiT: an interrupted run equals an uninterrupted one bit for bit, even after a damaged checkpoint; its
batches, latents, validation loss and optimizers."""

import json
import shutil

import numpy as np
import pytest
import torch

from scaling.accounting.presets import VAE_PRESETS
from scaling.core.errors import UserError
from scaling.core.events import Events
from scaling.core.records import read_record
from scaling.core.specs import DataSpec, DiTSpec, EvalSpec, OptimSpec, VAETrainSpec, WorldSpec
from scaling.core.stage import Stage
from scaling.core.stage_fields import DataFields, VAEFields
from scaling.core.stage_folder import StageFolder
from scaling.data.clips import evenly_spaced
from scaling.diffusion.flow import seeded_noise, shift, stratified_times, to_velocity
from scaling.diffusion.latents import LatentSet, LatentWriter, Moments
from scaling.models.dit import DiT
from scaling.stages import vae
from scaling.stages.data import load_clips
from scaling.stages.run import run_stage
from scaling.text.encoded_captions import EncodedCaptions
from scaling.training import checkpoints
from scaling.training.batches import FlowBatches
from scaling.training.dit import DiTModule, flow_losses
from scaling.training.loop import fit
from scaling.training.muon import Muon, orthogonalize
from scaling.training.schedule import schedule, updates_before_decay
from scaling.training.validation import validation_loss
from scaling.training.weight_average import PowerEMA
from tests.tiny_run import write_latents

STEPS, EVERY = 12, 3
OPTIM = OptimSpec(batch_tokens=24, conditioning_frames=0.3, ema_widths=(0.1, 0.05))
DIT = DiTSpec(width=32, depth=1, head_dim=16)


@pytest.fixture(scope="module")
def latents(tmp_path_factory):
    """A folder of cached latents of two shapes with invented captions."""
    folder = tmp_path_factory.mktemp("latents")
    write_latents(folder)
    return folder


@pytest.fixture
def train(latents):
    return LatentSet(latents, held_out=False, patch=2)


def module(train, steps=STEPS):
    torch.manual_seed(0)
    return DiTModule(DiT(DIT, train.channels, train.text_dim), OPTIM, steps)


def run(train, folder, until=STEPS):
    """Trains; raises Killed before the update `until`, as if the process had died there."""

    batches = FlowBatches(train, DIT, OPTIM, seed=0)

    def batch(step):
        if step == until:
            raise Killed
        return batches(step)

    trained = module(train)
    fit(trained, batch, folder / "checkpoints", Events(folder / "events.jsonl"), every=EVERY)
    return trained


class Killed(BaseException):
    pass


def assert_same(a, b):
    for group, tensors in a.state().items():
        for name, tensor in tensors.items():
            assert torch.equal(tensor, b.state()[group][name]), f"{group} {name}"


@pytest.fixture
def uninterrupted(train, tmp_path):
    (tmp_path / "whole").mkdir()
    return run(train, tmp_path / "whole")


@pytest.mark.parametrize("killed_at", [1, 4, 6, 11])
def test_interrupted_equals_uninterrupted(train, tmp_path, uninterrupted, killed_at):
    with pytest.raises(Killed):
        run(train, tmp_path, until=killed_at)
    assert_same(run(train, tmp_path), uninterrupted)


MANIFESTS = {
    "a list": lambda manifest: [manifest],
    "files in a list": lambda manifest: {**manifest, "files": []},
    "no files": lambda manifest: {**manifest, "files": {}},
    "a file less": lambda manifest: {**manifest, "files": dict(list(manifest["files"].items())[1:])},
    "leads away": lambda manifest: {**manifest, "files": {**manifest["files"], "../../x.safetensors": "0" * 64}},
    "step in words": lambda manifest: {**manifest, "step": "six"},
    "another step": lambda manifest: {**manifest, "step": 9},
    "no step": lambda manifest: {"files": manifest["files"]},
}
"""Manifests that must be rejected, made from the correct one."""


@pytest.mark.parametrize("damage", ["truncated", "flipped", "no manifest", *MANIFESTS])
def test_a_damaged_checkpoint_falls_back_to_the_one_before(train, tmp_path, uninterrupted, damage):
    with pytest.raises(Killed):
        run(train, tmp_path, until=8)
    newest = max((tmp_path / "checkpoints").glob("step-*"))
    weights = newest / "weights.safetensors"
    if damage == "truncated":
        weights.write_bytes(weights.read_bytes()[:-40])
    elif damage == "flipped":
        content = bytearray(weights.read_bytes())
        content[-1] ^= 1
        weights.write_bytes(content)
    elif damage == "no manifest":
        (newest / "manifest.json").unlink()
    else:
        manifest = json.loads((newest / "manifest.json").read_text())
        (newest / "manifest.json").write_text(json.dumps(MANIFESTS[damage](manifest)))
    step, _, problems = checkpoints.load_newest(tmp_path / "checkpoints", uninterrupted.state())
    assert step == 3
    assert "falling back" in problems[0]
    assert_same(run(train, tmp_path), uninterrupted)


def test_a_full_disk_is_reported_and_loses_nothing(train, uninterrupted, small_disk):
    disk = small_disk("4m")
    with pytest.raises(Killed):
        run(train, disk, until=4)
    (disk / "others").write_bytes(bytes(shutil.disk_usage(disk).free - 300_000))  # less than a checkpoint
    with pytest.raises(UserError, match=r"step-00000006.*no space left"):
        run(train, disk)
    assert checkpoints.load_newest(disk / "checkpoints", uninterrupted.state())[0] == 3
    assert not list((disk / "checkpoints").glob(".*"))
    (disk / "others").unlink()
    assert_same(run(train, disk), uninterrupted)


def test_latents_on_a_full_disk_are_reported_and_not_kept(small_disk):
    disk = small_disk("200k")
    writer = LatentWriter(disk)
    for number in range(2):
        writer.add(torch.zeros(2, 64, 64, 8), "", bool(number))
    text = EncodedCaptions(torch.zeros(1, 4, 384), torch.ones(1, 4, dtype=torch.bool), torch.zeros(1, 384))
    with pytest.raises(UserError, match=r"latents-train-2x64x64-0000\.safetensors: no space left"):
        writer.finish(text)
    assert list(disk.iterdir()) == []


def test_shards_hold_what_one_file_holds(latents, tmp_path, monkeypatch):
    monkeypatch.setattr(
        "scaling.diffusion.latents.SHARD_BYTES", 3 * 2 * 4 * 4 * 3 * 4
    )  # three clips of the larger shape
    write_latents(tmp_path)
    assert len(list(tmp_path.glob("latents-train-2x4x4-*"))) == 4
    for held_out in (False, True):
        one_shard, many_shards = (LatentSet(folder, held_out=held_out, patch=2) for folder in (latents, tmp_path))
        clips = list(range(len(one_shard)))
        assert torch.equal(one_shard.pack(clips).patches, many_shards.pack(clips).patches)
        assert (tmp_path / "clips.json").exists()


def test_ranks_and_micro_batches_share_one_batch(train):
    """Every token of the update is in exactly one micro-batch of one rank, with the same time and noise as on a single
    rank."""
    for step in range(5):
        (full_batch,) = FlowBatches(train, DIT, OPTIM, seed=0)(step)
        parts = [
            part
            for rank in range(2)
            for part in FlowBatches(train, DIT, OPTIM, seed=0, rank=rank, world_size=2, micro_tokens=8)(step)
        ]
        assert len(parts) > 2
        assert sum(part.share for part in parts) == pytest.approx(1)
        assert sorted(clip for part in parts for clip in part.packed.clips) == sorted(full_batch.packed.clips)
        for field in ("t_flow", "noise", "conditioning"):
            joined = torch.cat([getattr(part, field) for part in parts])
            assert torch.equal(joined.sort(0).values, getattr(full_batch, field).sort(0).values)


def test_conditioning_frames_are_the_first_or_the_last(train):
    batches = FlowBatches(train, DIT, OPTIM.replace(conditioning_frames=0.99), seed=0)
    first = last = 0
    for step in range(40):
        (batch,) = batches(step)
        lengths = [t * h * w for t, h, w in batch.packed.grids]
        for (t, _, _), marks in zip(batch.packed.grids, batch.conditioning.split(lengths), strict=True):
            frames = marks.reshape(t, -1)
            assert torch.equal(frames.all(1), frames.any(1))
            assert not frames.all()
            first, last = first + bool(frames[0, 0]), last + bool(frames[-1, 0])
    assert first > last > 0


def test_latents_are_normalized_and_packed_by_shape(train):
    values = train.pack(list(range(len(train)))).patches.reshape(-1, train.channels)
    torch.testing.assert_close(values.mean(0), torch.zeros(3), rtol=0, atol=1e-4)
    packed = train.pack([0, 1, 2, 3])
    assert len(packed.patches) == sum(t * h * w for t, h, w in packed.grids)
    assert packed.grids == [train.grids[clip] for clip in packed.clips]


def test_each_half_is_read_without_the_other(latents, tmp_path):
    halves = [LatentSet(latents, held_out=held_out, patch=2) for held_out in (False, True)]
    assert [len(half) for half in halves] == [20, 4]
    for held_out, name in ((False, "train"), (True, "held-out")):
        alone = tmp_path / name
        shutil.copytree(latents, alone)
        for path in alone.glob("latents-*"):
            if not path.name.startswith(f"latents-{name}-"):
                path.unlink()
        half = LatentSet(alone, held_out=held_out, patch=2)
        clips = list(range(len(half)))
        assert torch.equal(half.pack(clips).patches, halves[held_out].pack(clips).patches)


def test_a_clip_is_the_same_in_every_batch(train):
    packed = train.pack(list(range(len(train))))
    lengths = [t * h * w for t, h, w in packed.grids]
    for clip, patches in zip(packed.clips, packed.patches.split(lengths), strict=True):
        assert torch.equal(train.pack([clip]).patches, patches)


def test_running_moments_are_those_of_all_values():
    values = torch.randn(1000, 3) * torch.tensor([1.0, 0.1, 5.0]) + torch.tensor([0.0, 1000.0, -3.0])
    moments = Moments()
    for part in values.split([1, 7, 500, 492]):
        moments.add(part)
    torch.testing.assert_close(moments.mean, values.double().mean(0), rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(moments.std, values.double().std(0), rtol=1e-12, atol=0)


def test_the_vae_trains_on_clips_from_all_over_the_data(tmp_path, monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "1")  # which a stage sets
    spec = DataSpec(worlds=WorldSpec(count=9, frames=10), frames=5, holdout_every=8)
    data = Stage(slug="data", fields=DataFields(data=spec), parents={})
    run_stage(str(StageFolder.create(tmp_path, data).path))
    training = load_clips(StageFolder(tmp_path / data.id)).training
    read_frames, clips_read = vae.read_frames, []

    def watched(clips):
        clips_read.append([clip.ordinal for clip in clips])
        return read_frames(clips)

    monkeypatch.setattr(vae, "read_frames", watched)
    monkeypatch.setattr(vae, "MOST_TRAINING_CLIPS", 5)
    fields = VAEFields(vae=VAE_PRESETS["tiny"], train=VAETrainSpec(steps=1, crop_frames=5))
    stage = Stage(slug="vae", fields=fields, parents={"data": data.id})
    folder = StageFolder.create(tmp_path, stage)
    run_stage(str(folder.path))
    assert clips_read[0] == [clip.ordinal for clip in evenly_spaced(training, 5)]
    assert clips_read[0] == sorted(clips_read[0])
    assert (clips_read[0][0], clips_read[0][-1]) == (training[0].ordinal, training[-1].ordinal)
    assert read_record(folder.record_path).unique_clips == 5
    assert evenly_spaced(training, 1000) == training


def test_the_budget_is_met_to_half_an_update(train):
    batches = FlowBatches(train, DIT, OPTIM, seed=0)
    small, large = batches.steps_within(1e7), batches.steps_within(1e8)
    assert abs(large.train_flops / 1e8 - 1) < 0.02
    assert large.steps > small.steps
    with pytest.raises(UserError, match=r"flop_budget is 1, but one update alone costs .* FLOPs: raise the budget"):
        batches.steps_within(1.0)


def test_validation_is_fixed_and_paired(latents):
    held_out = LatentSet(latents, held_out=True, patch=2)
    model = module(held_out).dit
    evaluation = EvalSpec(val_clips=4, val_times=4)
    first, again = (validation_loss(model, held_out, evaluation)[0] for _ in range(2))
    assert first == again
    assert first.n == 4
    # An untrained model answers zero, and the velocity's mean square is that of noise plus that of normalized data.
    assert first.value == pytest.approx(2.0, abs=0.5)


def test_both_predictions_mean_the_same_velocity(train):
    clean, noise, t = torch.randn(5, 3), torch.randn(5, 3), torch.full((5, 1), 0.4)
    noisy = (1 - t) * clean + t * noise
    torch.testing.assert_close(to_velocity(clean, noisy, t, "clean"), noise - clean, rtol=0, atol=1e-5)
    batch = train.pack([0, 1])
    losses = flow_losses(module(train).dit, batch, torch.tensor([0.3, 0.6]), torch.randn(batch.patches.shape))
    assert losses.shape == (len(batch.patches),)


def test_times_are_stratified_and_logit_normal():
    times = stratified_times(4096, torch.Generator().manual_seed(0))
    logits = torch.special.logit(times.double())
    assert logits.mean() == pytest.approx(0, abs=0.01)
    assert logits.std() == pytest.approx(1, abs=0.02)


def test_longer_clips_take_more_noise():
    times = torch.linspace(0, 1, 11)
    assert torch.equal(shift(times, torch.tensor(256), 256), times)
    longer, shorter = shift(times, torch.tensor(4096), 256), shift(times, torch.tensor(16), 256)
    assert (longer[1:-1] > times[1:-1]).all()
    torch.testing.assert_close(1 - longer.flip(0), shorter)
    assert longer[5].item() == pytest.approx(0.8)  # 4 t / (1 + 3 t)


def test_muon_orthogonalizes_each_of_fused_matrices():
    torch.manual_seed(0)
    values = torch.linalg.svdvals(orthogonalize(torch.randn(3, 32, 16)))
    assert 0.6 < values.min() < values.max() < 1.3
    fused = torch.nn.Parameter(torch.zeros(48, 16))
    fused.grad = torch.cat([torch.randn(16, 16) * scale for scale in (1e-3, 1.0, 1e3)])
    Muon({fused: 3}, lr=1.0).step()
    for part in fused.detach().split(16):
        assert 0.5 < torch.linalg.svdvals(part).median() < 1.3


def test_a_branch_has_the_bits_of_the_run_that_never_left(train, tmp_path):
    """Two runs of different lengths branch off one trunk, which continues for the longer one."""
    optim = OPTIM.replace(warmup_steps=2, decay_fraction=0.25)
    batches = FlowBatches(train, DIT, optim, seed=0)

    def trained(name, steps, **how):
        torch.manual_seed(0)
        run = DiTModule(DiT(DIT, train.channels, train.text_dim), optim, steps)
        (tmp_path / name).mkdir()
        fit(run, batches, tmp_path / name / "checkpoints", Events(tmp_path / name / "events.jsonl"), every=4, **how)
        return run

    short, long = 8, 16
    before = {steps: updates_before_decay(steps, 0.25 * steps) for steps in (short, long)}
    assert before == {8: 6, 16: 12}
    trained("trunk", short, until=before[short])
    trained("longer trunk", long, until=before[long], start=tmp_path / "trunk" / "checkpoints")
    for name, steps, trunk in (("short", short, "trunk"), ("long", long, "longer trunk")):
        branch = trained(name, steps, start=tmp_path / trunk / "checkpoints")
        assert_same(branch, trained(f"{name} alone", steps))


def test_schedule_rises_holds_and_falls():
    rates = [schedule(step, 100, 10, 50) for step in range(100)]
    assert rates[0] == pytest.approx(0.1)
    assert rates[9:51] == [1.0] * 42
    assert rates[-1] == pytest.approx(0.02)


def test_power_ema_has_the_weights_of_the_paper():
    model = torch.nn.Linear(1, 1, bias=False)
    ema = PowerEMA(model, width=0.1)
    for step in range(1, 201):
        model.weight.data.fill_(float(step))
        ema.update(model, step)
    weights = np.arange(1, 201) ** ema.gamma
    assert ema.weights["weight"].item() == pytest.approx((weights * np.arange(1, 201)).sum() / weights.sum(), rel=0.01)


def test_seeded_noise_is_its_own():
    assert torch.equal(seeded_noise((4, 4), 0, 1), seeded_noise((4, 4), 0, 1))
    assert not torch.equal(seeded_noise((4, 4), 0, 1), seeded_noise((4, 4), 1, 0))
