"""The SLURM cluster on one machine is real: it runs jobs on both nodes, refuses, preempts, and leaves no trace."""

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from scaling.core.errors import UserError
from slurm.testbed import Settings, Testbed
from slurm.testbed.check import check
from slurm.testbed.daemons import daemons

pytestmark = pytest.mark.slurm

SECONDS = 40
"""Seconds that a state is waited for; a machine without other load needs two."""


def script(folder, text, *options):
    """A batch script that writes its output beside itself."""
    path = folder / "job.sh"
    lines = ["#!/bin/bash", f"#SBATCH --output={folder}/%x.%a.out", *(f"#SBATCH {option}" for option in options), text]
    path.write_text("\n".join(lines) + "\n")
    return str(path)


def submit(testbed, *arguments):
    done = testbed.run("sbatch", "--parsable", *arguments)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def wait_for(condition, what):
    deadline = time.monotonic() + SECONDS
    while not condition():
        assert time.monotonic() < deadline, f"waited without success for: {what}"
        time.sleep(0.1)


def state(testbed, job):
    done = testbed.run("squeue", "--noheader", "--states=all", f"--jobs={job}", "--format=%T")
    return done.stdout.strip()


def test_both_nodes_are_idle_and_offer_eight_gpus(testbed):
    done = testbed.run("sinfo", "--noheader", "--Node", "--partition=main", "--format=%N %T %G")
    assert done.stdout.split("\n")[:2] == ["n0 idle gpu:h100:8", "n1 idle gpu:h100:8"]


def test_a_running_testbed_is_found_and_not_started_again(testbed):
    before = daemons(testbed.folder)
    assert Testbed(testbed.settings).start() is False
    assert daemons(testbed.folder) == before


def test_sixteen_tasks_on_two_nodes_see_their_gpus(testbed):
    assert check(testbed) == {"nodes": 2, "tasks": 16, "gpus_per_node": 8}


def test_an_array_runs_up_to_the_limit_and_is_refused_beyond(testbed, tmp_path):
    path = script(tmp_path, "echo $SLURM_ARRAY_TASK_ID", "--job-name=array")
    job = submit(testbed, "--array=0-16", path)
    wait_for(lambda: state(testbed, job).split("\n") == ["COMPLETED"] * 17, "17 elements done")
    assert [(tmp_path / f"array.{index}.out").read_text() for index in range(17)] == [f"{i}\n" for i in range(17)]
    refused = testbed.run("sbatch", "--parsable", "--array=0-17", path)
    assert (refused.returncode, refused.stdout) == (1, "")
    assert "Invalid job array specification" in refused.stderr


def test_more_gpus_than_a_node_has_are_refused(testbed, tmp_path):
    refused = testbed.run("sbatch", "--parsable", "--gpus-per-node=9", script(tmp_path, "true"))
    assert refused.returncode == 1
    assert "Requested node configuration is not available" in refused.stderr


def test_partition_high_preempts_and_the_job_is_requeued(testbed, tmp_path):
    text = 'echo "restart ${SLURM_RESTART_COUNT:-0}"\n[ -n "$SLURM_RESTART_COUNT" ] || sleep 60'
    options = ("--job-name=low", "--gpus-per-node=8", "--nodes=2", "--open-mode=append")
    job = submit(testbed, script(tmp_path, text, *options))
    wait_for(lambda: state(testbed, job) == "RUNNING", "the low job runs")
    wait_for((tmp_path / f"low.{2**32 - 2}.out").exists, "its output")
    high = testbed.run("srun", "--partition=high", "--nodes=2", "--gpus-per-node=8", "--chdir=/", "hostname")
    assert high.returncode == 0, high.stderr
    wait_for(lambda: state(testbed, job) == "COMPLETED", "the low job ran again")
    output = (tmp_path / f"low.{2**32 - 2}.out").read_text().splitlines()
    assert [line for line in output if line.startswith("restart")] == ["restart 0", "restart 1"]


def test_without_accounting_sacct_fails(testbed):
    done = testbed.run("sacct", "--noheader", "--parsable2")
    assert done.returncode == 1
    assert "Slurm accounting storage is disabled" in done.stderr


def test_with_accounting_sacct_knows_the_job(accounted_testbed):
    assert check(accounted_testbed)["sacct"] == "works"


@pytest.fixture
def has_slurm(testbed):
    """For tests that start a testbed of their own: skips where none can be started."""


def test_stop_ends_running_jobs_and_leaves_nothing(has_slurm, tmp_path):
    testbed = Testbed(Settings(folder=tmp_path / "bed"))
    try:
        testbed.start()
        job = submit(testbed, script(tmp_path, "trap '' TERM\nsrun sleep 1000", "--job-name=deaf"))
        wait_for(lambda: "sleep" in testbed.processes().values(), "the job's process")
        started = testbed.processes()
        assert {"munged", "slurmctld", "slurmd", "slurmstepd", "sleep"} <= set(started.values()), job
    finally:
        assert testbed.stop()
    assert not any(is_alive(pid, name) for pid, name in started.items())
    assert not testbed.folder.exists()
    assert not testbed.stop()


def is_alive(pid, name):
    try:
        with open(f"/proc/{pid}/comm") as file:
            return file.read().strip() == name
    except OSError:
        return False


def test_a_testbed_that_lost_a_node_is_started_again(has_slurm, tmp_path):
    testbed = Testbed(Settings(folder=tmp_path / "bed"))
    try:
        testbed.start()
        os.kill(next(pid for pid, name in daemons(testbed.folder).items() if name == "slurmd"), signal.SIGKILL)
        assert testbed.start() is True
        assert check(testbed)["tasks"] == 16
    finally:
        testbed.stop()


def test_a_start_that_fails_leaves_no_daemon_and_names_the_log(has_slurm, tmp_path, monkeypatch):
    testbed = Testbed(Settings(folder=tmp_path / "bed"))
    monkeypatch.setattr("slurm.testbed.configuration.MEMORY_MB", "much")
    with pytest.raises(UserError, match=r"slurmctld died; .*slurmctld\.out ends:\n.*RealMemory"):
        testbed.start()
    assert not testbed.processes()
    assert testbed.stop()
    assert not testbed.folder.exists()


def test_a_missing_package_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr("slurm.testbed.testbed.program", lambda name: None)
    with pytest.raises(UserError, match="apt-get install -y mariadb-client-core mariadb-server-core munge slurm-wlm"):
        Testbed(Settings(folder=tmp_path, accounting=True)).start()


def test_a_folder_with_other_files_is_not_touched(has_slurm, tmp_path):
    (tmp_path / "thesis.tex").write_text("years of work")
    testbed = Testbed(Settings(folder=tmp_path))
    for verb in (testbed.start, testbed.stop):
        with pytest.raises(UserError, match="not a testbed's"):
            verb()
    assert (tmp_path / "thesis.tex").exists()


@pytest.mark.slow
def test_the_commands_in_the_documentation_work_as_printed(has_slurm, tmp_path):
    root = Path(__file__).parents[1]
    blocks = re.findall(r"```sh\n(.*?)```", (root / "docs" / "testbed.md").read_text(), re.DOTALL)
    assert len(blocks) == 3
    for block in blocks:
        commands = block.replace(".venv/bin/python", sys.executable).replace("/tmp/", f"{tmp_path}/")
        done = subprocess.run(
            ["bash", "-ec", commands],
            check=False,
            capture_output=True,
            text=True,
            cwd=root,
            env={**os.environ, "XDG_CACHE_HOME": str(tmp_path)},
            timeout=4 * SECONDS,
        )
        assert done.returncode == 0, done.stderr
        assert "stopped" in done.stdout.splitlines()[-1]
