"""The commands `submit` and `cancel`, and the controller job."""

import json

from scaling.cli.main import main
from scaling.core.errors import NoSpaceError
from slurm import controller_job, request
from slurm.worker import REQUEUE
from tests.submit.launching import queued_stages


def submit(out, *options, sweep="tiny"):
    return main(["submit", sweep, "--cluster", "testbed", "--out", str(out), *options])


def test_a_budget_stays_until_another_is_given(slurm, out, capsys):
    assert submit(out, "--budget-gpu-hours", "5") == 0
    assert submit(out) == 0
    assert request.load(out).budget_gpu_hours == 5
    before = len(slurm.jobs())
    assert submit(out, "--budget-gpu-hours", "0.00001") == 2
    assert request.load(out).budget_gpu_hours == 5
    assert len(slurm.jobs()) == before
    for wrong in ("0", "nan", "inf"):
        assert submit(out, "--budget-gpu-hours", wrong) == 2
    capsys.readouterr()


def test_a_folder_belongs_to_one_sweep(slurm, out, capsys):
    assert submit(out) == 0
    assert submit(out, sweep="native") == 2
    assert "the sweep tiny was submitted from here" in capsys.readouterr().err


def test_a_dry_run_changes_no_document(slurm, out, capsys):
    out.mkdir()
    for name in ("tuning.json", "outcome.json"):
        (out / name).write_text("{}")
    assert submit(out, "--dry-run", "--json") == 0
    assert len(json.loads(capsys.readouterr().out)["scripts"]) == 7
    assert sorted(path.name for path in out.iterdir()) == ["outcome.json", "tuning.json"]


def test_cancel_cancels_what_it_names(slurm, out, capsys):
    assert submit(out) == 0
    assert main(["cancel", str(out), ""]) == 2
    assert main(["cancel", str(out), "dit"]) == 2
    before = queued_stages(slurm, out)
    assert main(["cancel", str(out), "dit-w32d2@4x"]) == 0
    assert "1 stages cancelled, 1 jobs taken" in capsys.readouterr().out
    (cancelled,) = before - queued_stages(slurm, out)
    assert cancelled.startswith("dit-w32d2")
    assert main(["cancel", str(out)]) == 0
    assert queued_stages(slurm, out) == {}


def test_the_controller_job_survives_a_full_disk(monkeypatch, out):
    def full(*arguments, **options):
        raise NoSpaceError("no space left on the device")

    monkeypatch.setattr(controller_job, "advance", full)
    monkeypatch.setattr(controller_job, "DISK_SECONDS", 0.0)
    monkeypatch.setattr(controller_job.requests, "load", lambda out: None)
    assert controller_job._take_step(out) == (REQUEUE, "no space left on the device; trying again")
