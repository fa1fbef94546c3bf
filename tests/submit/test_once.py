"""Launchers that run at the same time or are killed, and submissions that fail or lose their answer: no stage twice."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from slurm.submissions import Submissions
from tests.imitation.handle import Imitation
from tests.submit.launching import expected, jobs_of, launcher, queued_stages

ROOT = Path(__file__).parents[2]


LAUNCH = """
import sys
from pathlib import Path
sys.path.insert(0, {root!r})
from tests.submit.launching import jobs_of, launcher
launcher(Path(sys.argv[1])).submit("s", jobs_of(int(sys.argv[2])), print)
"""


def start_launcher(out, count):
    command = [sys.executable, "-c", LAUNCH.format(root=str(ROOT)), str(out), str(count)]
    return subprocess.Popen(command, start_new_session=True, stderr=subprocess.PIPE, cwd=ROOT)


def test_sixteen_launchers_of_one_plan_start_no_run_twice(slurm, out):
    launchers = [start_launcher(out, 100) for _ in range(16)]
    for process in launchers:
        _, stderr = process.communicate(timeout=120)
        assert process.returncode == 0, stderr.decode()
    assert queued_stages(slurm, out) == expected(jobs_of(100), out)
    assert len(slurm.calls("sbatch")) == 1 + 6 + 2


@pytest.mark.parametrize("seed", range(5))
def test_a_fifth_of_submissions_fails_or_loses_its_answer(tmp_path, monkeypatch, clock, seed):
    imitation = Imitation(tmp_path / "slurm", seed=seed)
    monkeypatch.setenv("PATH", imitation.environment["PATH"])
    imitation.set(sbatch_refuses=0.1, sbatch_loses_answer=0.1)
    out, jobs = tmp_path / "out", jobs_of(100)
    launcher(out, clock, max_array_size=4).submit("s", jobs, print)
    assert any(call.code for call in imitation.calls("sbatch"))
    assert queued_stages(imitation, out) == expected(jobs, out)
    assert launcher(out, clock, max_array_size=4).submit("s", jobs, print).submitted == []


def test_a_submission_that_hangs_after_it_was_accepted_is_found(slurm, out, clock):
    slurm.set(sbatch_hangs=1.0, hang_seconds=30.0)
    jobs = jobs_of(1)
    clock.alarms.append((clock.now + 1, lambda: slurm.set(sbatch_hangs=0.0)))
    launcher(out, clock, call_timeout=1.5).submit("s", jobs, print)
    assert queued_stages(slurm, out) == expected(jobs, out)
    assert all(submission.answer == "accepted" for submission in Submissions(out).all())


@pytest.mark.parametrize("taken", [True, False])
def test_a_launcher_that_is_killed_during_a_submission_leaves_no_duplicate(slurm, out, clock, taken):
    """Killed while sbatch has not answered: the array may have been accepted, or not."""
    slurm.set(sbatch_hangs=1.0, hang_seconds=120.0) if taken else slurm.set(down=True)
    process = start_launcher(out, 5)
    end = time.monotonic() + 60
    while not (slurm.jobs() if taken else slurm.calls("sbatch")):
        assert process.poll() is None, process.stderr.read().decode()
        assert time.monotonic() < end
        time.sleep(0.02)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    slurm.set(sbatch_hangs=0.0, down=False)
    clock.now = time.time() + 3600
    launcher(out, clock).submit("s", jobs_of(5), print)
    assert queued_stages(slurm, out) == expected(jobs_of(5), out)


def test_an_array_that_is_accepted_a_second_time_is_cancelled(slurm, out, clock):
    """SLURM accepts a submission long after it was given up and submitted again."""
    jobs = jobs_of(1)
    launcher(out, clock).submit("s", jobs, print)
    _, _, job, _ = slurm.jobs()
    subprocess.run(["sbatch", "--parsable", job.script], check=True, capture_output=True)
    assert queued_stages(slurm, out)[jobs[1].stage.id] == 2
    launcher(out, clock).submit("s", jobs, print)
    assert queued_stages(slurm, out) == expected(jobs, out)
