"""The budget in GPU-hours: what was spent, what is promised, and what is refused."""

import json

import pytest

from scaling.core.errors import UserError
from scaling.core.stage_folder import StageFolder
from tests.submit.launching import jobs_of, launcher


def test_a_budget_limits_what_is_submitted(slurm, out, clock):
    jobs = jobs_of(10)
    with pytest.raises(UserError, match=r"--budget-gpu-hours is 4, but 0 are spent, 0 promised .* add 5"):
        launcher(out, clock).submit("s", jobs, print, limit=4)
    assert not slurm.calls("sbatch")
    launcher(out, clock).submit("s", jobs[:6], print, limit=4)
    with pytest.raises(UserError, match=r"2.5 promised to queued jobs, and this would add 2.5"):
        launcher(out, clock).submit("s", jobs, print, limit=4)
    ledger = [json.loads(line) for line in (out / "slurm" / "ledger.jsonl").read_text().splitlines()]
    assert [(row["stages"], row["gpu_hours"], row["limit"]) for row in ledger] == [(1, 0, 4), (5, 2.5, 4)]


def test_what_was_spent_counts_against_the_budget(slurm, out, clock):
    jobs = jobs_of(2, gpus=4)
    folder = StageFolder.create(out / "runs", jobs[1].stage)
    folder.claim_attempt("1_0.0", gpus=4).log(done=1, total=2)
    log = folder.path / "events.0001.jsonl"
    log.write_text(json.dumps({"done": 1, "total": 2, "seconds": 1800.0}) + "\n")
    with pytest.raises(UserError, match=r"2 are spent, 0 promised to queued jobs, and this would add 4"):
        launcher(out, clock).submit("s", jobs, print, limit=5)
