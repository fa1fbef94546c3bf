"""The imitation's faults, which a real SLURM cannot be made to show: each does what it says."""

import subprocess

import pytest

from tests.imitation.handle import Imitation
from tests.imitation.under_test import QUEUE, answer


@pytest.fixture
def imitation(tmp_path):
    return Imitation(tmp_path / "imitation", seed=3)


@pytest.fixture
def script(tmp_path):
    path = tmp_path / "job.sh"
    path.write_text("#!/bin/sh\n#SBATCH --job-name=mine\n")
    return str(path)


def test_refused_jobs_do_not_exist_and_those_with_lost_answers_do(imitation, script):
    imitation.set(sbatch_refuses=0.3, sbatch_loses_answer=0.3)
    done = [imitation.run("sbatch", "--parsable", script) for _ in range(40)]
    accepted = [process for process in done if process.returncode == 0]
    lost = [process for process in done if "Socket timed out on send/recv operation" in process.stderr]
    refused = [process for process in done if "Unable to contact slurm controller" in process.stderr]
    assert len(accepted) + len(lost) + len(refused) == 40
    assert min(len(accepted), len(lost), len(refused)) >= 4
    assert len(imitation.jobs("mine")) == len(accepted) + len(lost)
    assert [call.code for call in imitation.calls("sbatch")] == [process.returncode for process in done]


def test_a_job_whose_sbatch_hangs_exists(imitation, script):
    with imitation.having(sbatch_hangs=1.0, hang_seconds=30), pytest.raises(subprocess.TimeoutExpired):
        imitation.run("sbatch", "--parsable", script, timeout=0.5)
    assert [job.id for job in imitation.jobs("mine")] == ["1"]
    assert [call.code for call in imitation.calls()] == [None]


def test_squeue_hangs_and_is_empty_by_mistake(imitation, script):
    imitation.run("sbatch", "--parsable", script)
    ask = (*QUEUE, "--format=%i")
    with imitation.having(squeue_lies_empty=True):
        assert answer(imitation.run(*ask)) == (0, "", "")
    with imitation.having(squeue_hangs=True, hang_seconds=30), pytest.raises(subprocess.TimeoutExpired):
        imitation.run(*ask, timeout=0.5)
    assert answer(imitation.run(*ask)) == (0, "1\n", "")


def test_accounting_remembers_a_job_that_slurm_has_forgotten(imitation, script):
    imitation.run("sbatch", "--parsable", script)
    imitation.start("1")
    imitation.fail("1", "NODE_FAIL", "0:0")
    imitation.forget("1")
    assert imitation.run(*QUEUE, "--states=all", "--format=%i").stdout == ""
    assert imitation.run("scontrol", "show", "job", "1").returncode == 1
    done = imitation.run("sacct", "--noheader", "--parsable2", "--allocations", "--format=JobID,State", "--jobs=1")
    assert done.stdout == "1|NODE_FAIL\n"


def test_a_preempted_job_waits_again_if_it_may(imitation, script):
    for option in ("--requeue", "--no-requeue"):
        imitation.run("sbatch", "--parsable", option, script)
    for job in ("1", "2"):
        imitation.start(job)
        imitation.preempt(job)
    assert [(job.state, job.reason, job.restarts) for job in imitation.jobs()] == [
        ("PENDING", "BeginTime", 1),
        ("PREEMPTED", "None", 0),
    ]


def test_batch_scripts_run_as_they_were_when_submitted(imitation, tmp_path):
    path = tmp_path / "job.sh"
    options = f"--array=0-1 --nodes=2 --ntasks-per-node=2 --gpus-per-node=2 --output={tmp_path}/%A_%a.out"
    command = "echo $SLURM_PROCID $SLURM_NODEID $SLURM_LOCALID $CUDA_VISIBLE_DEVICES; exit $SLURM_ARRAY_TASK_ID"
    path.write_text(f"#!/bin/sh\n#SBATCH {options}\nsrun --unbuffered --output {tmp_path}/%A_%a_%t sh -c '{command}'\n")
    imitation.run("sbatch", "--parsable", str(path))
    path.write_text("#!/bin/sh\nexit 7\n")
    assert [imitation.run_next().state for _ in range(2)] == ["COMPLETED", "FAILED"]
    assert imitation.run_next() is None
    texts = [(tmp_path / f"1_0_{rank}").read_text() for rank in range(4)]
    assert texts == ["0 0 0 0,1\n", "1 0 1 0,1\n", "2 1 0 0,1\n", "3 1 1 0,1\n"]
    assert imitation.job("1_1").exit_code == "1:0"


@pytest.mark.parametrize("command", [("squeue",), ("scontrol", "ping"), ("sacct", "--noheader"), ("sinfo",)])
def test_what_is_not_imitated_is_an_error(imitation, command):
    done = imitation.run(*command)
    assert (done.returncode, done.stdout) == (99, "")
    assert "not imitated" in done.stderr
