"""What past attempts left decides whether there is another one: interruptions do not count, failures do."""

import errno
import json
import math
import os
import signal
import subprocess
import threading
from pathlib import Path

import pytest
import torch

from scaling.core import signals
from scaling.core.attempts import attempts, given_up, reset_failures, stage_to_try
from scaling.core.errors import DivergedError, NoSpaceError, UserError
from scaling.core.records import read_record, training_table
from scaling.core.specs import DataSpec, WorldSpec
from scaling.core.stage import Stage
from scaling.core.stage_fields import DataFields
from scaling.core.stage_folder import StageFolder
from scaling.core.store import write_document
from scaling.stages.failures import failure_event
from scaling.stages.run import run_stage
from scaling.training.dit import DiTModule
from slurm import worker
from tests.tiny_run import make_run


@pytest.fixture
def folder(tmp_path):
    stage = Stage(slug="data", fields=DataFields(data=DataSpec(worlds=WorldSpec(count=2))), parents={})
    return StageFolder.create(tmp_path, stage)


def add_attempt(folder, *rows, job="7_0.0"):
    """An attempt that logs these events."""
    events = folder.claim_attempt(job, gpus=2)
    for row in rows:
        events.log(**row)


FAILED = {"error": "ValueError: no", "user_error": False, "out_of_memory": False}
STOPPED = {"stopped": "stopped after 3 of 9 updates", "out_of_time": False}
LATE = {"stopped": "stopped by SIGUSR2", "out_of_time": True}
PROGRESS = {"done": 3, "total": 9, "loss": 0.5, "begun": 1, "saved": 3}


def test_an_attempt_is_read_from_its_files(folder):
    add_attempt(folder, PROGRESS, STOPPED)
    (attempt,) = attempts(folder)
    assert (attempt.job, attempt.gpus, attempt.start_update, attempt.done, attempt.total, attempt.loss) == (
        "7_0.0",
        2,
        1,
        3,
        9,
        0.5,
    )
    assert (attempt.end, attempt.progress, attempt.message) == ("stopped", True, "stopped after 3 of 9 updates")


def test_interruptions_never_count_as_failures(folder):
    for _ in range(20):
        add_attempt(folder, STOPPED)
    assert given_up(folder, attempts(folder)) is None


@pytest.mark.parametrize(("row", "most"), [(FAILED, 2), (LATE, 2), ({}, 6)])
def test_a_stage_that_fails_again_without_progress_is_given_up(folder, row, most):
    for number in range(most):
        assert given_up(folder, attempts(folder)) is None, number
        add_attempt(folder, *([row] if row else []))
    assert given_up(folder, attempts(folder))
    reset_failures(folder)
    assert given_up(folder, attempts(folder)) is None


def test_progress_cancels_earlier_failures(folder):
    for _ in range(5):
        add_attempt(folder, FAILED)
        add_attempt(folder, PROGRESS, LATE)
    assert given_up(folder, attempts(folder)) is None


def test_a_user_error_is_not_tried_again(folder):
    add_attempt(folder, {"error": "lower it", "user_error": True})
    assert given_up(folder, attempts(folder)) == "lower it"


def test_a_reset_starts_with_whole_micro_batches(folder):
    add_attempt(folder, FAILED | {"out_of_memory": True})
    assert stage_to_try(folder).engine.micro_batch_halvings == 1
    reset_failures(folder)
    assert stage_to_try(folder).engine.micro_batch_halvings == 0


def test_a_disk_that_stays_full_is_given_up(folder):
    for number in range(6):
        assert given_up(folder, attempts(folder)) is None, number
        add_attempt(folder, {"error": "no space left", "user_error": True, "no_space": True})
    assert given_up(folder, attempts(folder)) == "no space left"


def test_the_longest_error_is_read_from_the_end_of_the_log(folder):
    add_attempt(folder, failure_event(ValueError("x" * 100_000), math.inf))
    (attempt,) = attempts(folder)
    assert attempt.end == "failed"
    assert attempt.message.startswith("ValueError: xxx")


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
def test_a_full_share_of_the_disk_is_a_full_disk(folder, monkeypatch, number):
    def full(path, content):
        raise OSError(number, "full")

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(NoSpaceError):
        write_document(folder.path / "document.json", {})


def test_a_job_waits_for_room_on_a_disk_that_is_full(small_disk, monkeypatch, capsys):
    disk = small_disk("8m")  # less than an attempt needs
    stage = Stage(slug="data", fields=DataFields(data=DataSpec(worlds=WorldSpec(count=2))), parents={})
    folder = StageFolder.create(disk, stage)
    monkeypatch.setattr(worker, "DISK_POLL_SECONDS", 0.05)
    monkeypatch.setattr(signals, "_received", [])
    waiting = threading.Thread(target=worker._wait_for_disk_space, args=(folder,), daemon=True)
    waiting.start()
    waiting.join(1.0)
    assert waiting.is_alive()
    subprocess.run(["mount", "-o", "remount,size=64m", disk], check=True)
    waiting.join(30.0)
    assert not waiting.is_alive()
    assert capsys.readouterr().out.count("waiting for disk space") == 1
    subprocess.run(["mount", "-o", "remount,size=8m", disk], check=True)
    signals._received.append("SIGTERM")
    with pytest.raises(signals.StoppedError):
        worker._wait_for_disk_space(folder)


def test_an_incomplete_log_and_an_empty_claim_are_a_silent_attempt(folder):
    add_attempt(folder)
    (folder.path / "events.0001.jsonl").write_bytes(b'{"done": 1, "tot')
    (folder.path / "attempts" / "0001.json").write_bytes(b"")
    (attempt,) = attempts(folder)
    assert (attempt.end, attempt.job, attempt.done) == ("silent", "", None)


def test_the_message_of_a_rank_counts_where_the_first_was_killed(folder):
    add_attempt(folder)
    folder.events_of_attempt(3).log(**FAILED | {"out_of_memory": True})
    assert attempts(folder)[0].end == "out of memory"
    assert stage_to_try(folder).engine.micro_batch_halvings == 1


# real stages

SMALL = {"optimizer": "adamw", "flop_budget": 6e8, "sample_at": (1.0,)}


@pytest.fixture
def run_folder(tmp_path, monkeypatch):
    """A `dit` stage whose parents are complete, with batches of 64 tokens."""
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    return make_run(tmp_path, **SMALL)


def test_memory_that_runs_out_halves_the_micro_batch_and_nothing_else(run_folder, monkeypatch):
    """The loss fails for more tokens than fit, as torch would on a GPU."""
    undisturbed_loss, room, sizes = DiTModule.loss, 20, []

    def loss(self, batch, step):
        if len(batch.conditioning) > room:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB.")
        sizes.append(len(batch.conditioning))
        return undisturbed_loss(self, batch, step)

    monkeypatch.setattr(DiTModule, "loss", loss)
    for tried in range(3):
        if tried < 2:
            with pytest.raises(torch.OutOfMemoryError):
                run_stage(str(run_folder.path))
            assert [attempt.end for attempt in attempts(run_folder)] == ["out of memory"] * (tried + 1)
            assert given_up(run_folder, attempts(run_folder)) is None
        else:
            run_stage(str(run_folder.path))
    record = read_record(run_folder.record_path)
    assert record.engine.micro_batch_halvings == 2
    assert max(sizes) <= room
    monkeypatch.setattr(DiTModule, "loss", undisturbed_loss)
    undisturbed = make_run(run_folder.path.parent.parent / "other", **SMALL)
    run_stage(str(undisturbed.path))
    expected = read_record(undisturbed.record_path)
    assert (record.steps, record.num_tokens, record.batch_tokens) == (
        expected.steps,
        expected.num_tokens,
        expected.batch_tokens,
    )
    # bfloat16 products of other groups round differently; in float32 it is 1e-5 of the weights (test_engine.py)
    assert record.value("val_loss") == pytest.approx(expected.value("val_loss"), rel=1e-3)


def test_memory_that_never_suffices_ends_with_advice(run_folder, monkeypatch):
    def loss(self, batch, step):
        raise torch.OutOfMemoryError("CUDA out of memory.")

    monkeypatch.setattr(DiTModule, "loss", loss)
    for _ in range(16):
        with pytest.raises((torch.OutOfMemoryError, UserError)):
            run_stage(str(run_folder.path))
        if reason := given_up(run_folder, attempts(run_folder)):
            break
    assert "checkpoint_activations" in reason


def test_torchs_message_about_full_memory_is_recognized(folder):
    """torch has no exception of its own for the CPU's memory."""
    with pytest.raises(RuntimeError) as full:
        torch.empty(2**50)
    assert failure_event(full.value, math.inf)["out_of_memory"]
    assert not failure_event(RuntimeError("no"), math.inf)["out_of_memory"]


def test_a_run_that_diverges_is_a_result(run_folder, monkeypatch):
    undisturbed_loss = DiTModule.loss
    monkeypatch.setattr(DiTModule, "loss", lambda *args: undisturbed_loss(*args) * (math.nan if args[2] == 3 else 1.0))
    run_stage(str(run_folder.path))
    record = read_record(run_folder.record_path)
    assert run_folder.complete
    assert (record.diverged_at, record.metrics) == (3, ())
    table = training_table([record])
    assert table["val_loss"].isna().all()
    assert record.spent_flops == pytest.approx(3 / record.steps * record.train_flops)


def test_a_vae_that_diverges_is_a_user_error():
    assert issubclass(DivergedError, UserError)


def test_a_signal_stops_training_after_an_update_and_the_rest_has_the_same_bits(run_folder, monkeypatch):
    monkeypatch.setattr(signals, "_received", [])
    before = {number: signal.getsignal(number) for number in signals.SIGNALS}
    signals.listen()
    undisturbed_loss = DiTModule.loss

    def loss(self, batch, step):
        if step == 2:
            os.kill(os.getpid(), signal.SIGTERM)
        return undisturbed_loss(self, batch, step)

    try:
        with monkeypatch.context() as patch:
            patch.setattr(DiTModule, "loss", loss)
            with pytest.raises(signals.StoppedError):
                run_stage(str(run_folder.path), job="7_0.0", gpus=1)
        signals._received.clear()
        (attempt,) = attempts(run_folder)
        assert (attempt.end, attempt.done, attempt.progress) == ("stopped", 3, True)
        saved = sorted(path.name for path in (run_folder.path / "checkpoints").glob("step-*"))
        assert saved[-1] == "step-00000003"
        run_stage(str(run_folder.path), job="7_0.1", gpus=1)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        signals._listening = False
    undisturbed = make_run(run_folder.path.parent.parent / "other", **SMALL)
    run_stage(str(undisturbed.path))
    model = "model.safetensors"
    assert (run_folder.path / model).read_bytes() == (undisturbed.path / model).read_bytes()
    assert [attempt.start_update for attempt in attempts(run_folder)] == [0, 3]


def test_a_signal_late_in_a_job_means_its_time_limit(run_folder, monkeypatch):
    monkeypatch.setattr(signals, "_received", ["SIGUSR2"])
    with pytest.raises(signals.StoppedError):
        run_stage(str(run_folder.path), deadline=0.0)
    assert attempts(run_folder)[0].end == "out of time"


def test_events_have_a_time(folder):
    events = folder.claim_attempt()
    events.log(doing="this")
    (row,) = [json.loads(line) for line in events.path.read_text().splitlines()]
    assert row["seconds"] >= 0
