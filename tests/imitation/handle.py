"""The imitated SLURM as tests use it: they change jobs, set faults, and read which commands were called."""

import json
import os
import subprocess
import sys
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from scaling.core.store import read_jsonl
from tests.imitation import state as cluster
from tests.imitation.commands import COMMANDS
from tests.imitation.srun import fill_in

ROOT = Path(__file__).parents[2]
SHIM = """#!{python} -IS
import sys
sys.path.insert(0, {root!r})
from tests.imitation.{module} import main
sys.exit(main({name!r}, {folder!r}, sys.argv[1:]))
"""
SECONDS = 60
"""Seconds that a command or a batch script may take."""


@dataclass(frozen=True)
class Job:
    """A job, or one index of an array, at one moment."""

    id: str
    """Such as 7, or 7_2 of an array."""
    array: str
    index: int | None
    name: str
    partition: str
    state: str
    """SLURM's state, such as PENDING."""
    reason: str
    restarts: int
    exit_code: str
    nodes: int
    gpus: int
    after: tuple[str, ...]
    """The jobs that it waits for."""
    script: str
    """Path of the batch script, which may have changed since the submission."""


@dataclass(frozen=True)
class Call:
    """A call of a command."""

    time: float
    """Seconds since the epoch, when it began."""
    command: tuple[str, ...]
    code: int | None
    """Exit code; None while it runs, and where its caller killed it."""


class Imitation:
    """A SLURM whose jobs change only when a test changes them."""

    def __init__(self, folder: Path, **settings):
        """Settings are those of `state.CLUSTER`, such as accounting, max_array_size and seed."""
        unknown = settings.keys() - cluster.CLUSTER.keys()
        assert not unknown, unknown
        self.folder = folder
        (folder / "bin").mkdir(parents=True)
        (folder / "scripts").mkdir()
        start = cluster.empty()
        start["cluster"].update(settings)
        (folder / "state.json").write_text(json.dumps(start))
        for name in (*COMMANDS, "srun"):
            module = "srun" if name == "srun" else "commands"
            shim = folder / "bin" / name
            values = {
                "python": sys.executable,
                "root": str(ROOT),
                "module": module,
                "folder": str(folder),
                "name": name,
            }
            shim.write_text(SHIM.format(**values))
            shim.chmod(0o755)

    @property
    def environment(self):
        """The variables with which these commands are found."""
        return {"PATH": f"{self.folder / 'bin'}{os.pathsep}{os.environ['PATH']}"}

    def run(self, *command, timeout=SECONDS):
        """Runs a command as `Testbed.run` does."""
        return subprocess.run(
            command,
            check=False,
            capture_output=True,
            text=True,
            env={**os.environ, **self.environment},
            timeout=timeout,
            stdin=subprocess.DEVNULL,
        )

    # what happened

    def jobs(self, name=None):
        """All jobs, or those of a name, in the order of their submission."""
        with cluster.opened(self.folder) as state:
            return [_view(state, job) for job in state["jobs"] if name in (None, job["name"])]

    def job(self, job_id):
        """The job with this id."""
        with self._one(job_id) as (state, job):
            return _view(state, job)

    def calls(self, name=None):
        """All calls, or those of one command, in the order in which they started."""
        rows = read_jsonl(self.folder / "calls.jsonl")
        codes = {row["call"]: row["code"] for row in rows if "code" in row}
        calls = [Call(row["time"], tuple(row["command"]), codes.get(row["call"])) for row in rows if "command" in row]
        return [call for call in calls if name in (None, call.command[0])]

    # faults

    def set(self, **faults):
        """Sets some of `state.FAULTS`: probabilities for sbatch, and faults that last until they are unset."""
        with cluster.opened(self.folder) as state:
            unknown = faults.keys() - state["faults"].keys()
            assert not unknown, unknown
            state["faults"].update(faults)

    @contextmanager
    def having(self, **faults):
        """Sets faults inside a `with` block."""
        with cluster.opened(self.folder) as state:
            before = dict(state["faults"])
        self.set(**faults)
        try:
            yield self
        finally:
            self.set(**before)

    # what happens to jobs

    def start(self, job_id):
        """Starts a job that waits; a job that waits for another one cannot start."""
        with self._one(job_id) as (state, job):
            cluster.start(state, job)

    def finish(self, job_id):
        """Ends a running job with exit code 0."""
        self.fail(job_id, "COMPLETED", "0:0")

    def fail(self, job_id, how="FAILED", exit_code="1:0"):
        """Ends a running job as FAILED, TIMEOUT, OUT_OF_MEMORY, ..."""
        with self._one(job_id) as (_, job):
            assert job["state"] == "RUNNING", job["state"]
            cluster.end(job, how, exit_code)

    def preempt(self, job_id):
        """Stops a running job, as for a job of a higher partition or because its node failed; it waits again if it
        may."""
        with self._one(job_id) as (_, job):
            assert job["state"] == "RUNNING", job["state"]
            if job["requeue"]:
                cluster.requeue(job)
            else:
                cluster.end(job, "PREEMPTED")

    def forget(self, job_id):
        """Lets the controller forget a job that has ended, as it does after MinJobAge; accounting remembers it."""
        with self._one(job_id) as (_, job):
            assert cluster.ended(job), job["state"]
            job["forgotten"] = True

    def startable(self):
        """The jobs that could start now."""
        with cluster.opened(self.folder) as state:
            return [_view(state, job) for job in state["jobs"] if cluster.may_start(state, job)]

    def run_next(self, **environment):
        """Starts the next job, runs its batch script here until it ends, and gives the job, or None if there is
        none."""
        ready = self.startable()
        return self.execute(ready[0].id, **environment) if ready else None

    def execute(self, job_id, **environment):
        """Starts a job, runs its batch script as it was when it was submitted until it ends, and gives the job."""
        self.start(job_id)
        with self._one(job_id) as (_, job):
            variables, output = _variables(job), Path(job["folder"]) / fill_in(job["output"], _variables(job))
            text = self.folder / "scripts" / job["array"]
        with open(output, "ab") as file:
            done = subprocess.run(
                [text],
                check=False,
                env={**os.environ, **self.environment, **variables, **environment},
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=subprocess.STDOUT,
                timeout=SECONDS,
            )
        with self._one(job_id) as (state, job):
            if job["state"] == "RUNNING" and job["raw"] == variables["SLURM_JOB_ID"]:
                code = f"{done.returncode}:0" if done.returncode >= 0 else f"0:{-done.returncode}"
                cluster.end(job, "FAILED" if done.returncode else "COMPLETED", code)
            return _view(state, job)

    @contextmanager
    def _one(self, job_id):
        with cluster.opened(self.folder) as state:
            jobs = [job for job in state["jobs"] if cluster.label(job) == job_id]
            assert len(jobs) == 1, f"{len(jobs)} jobs have the id {job_id}"
            yield state, jobs[0]


def _view(state, job):
    fields = ("array", "index", "name", "partition", "state", "restarts", "exit_code", "nodes", "gpus", "script")
    return Job(
        id=cluster.label(job),
        reason=cluster.reason(state, job),
        after=tuple(job["after"]),
        **{name: job[name] for name in fields},
    )


def _variables(job):
    """The environment variables of a batch script, as far as ours and Submitit's read them."""
    tasks = job["nodes"] * job["tasks_per_node"]
    variables = {
        "SLURM_JOB_ID": job["raw"],
        "SLURM_JOBID": job["raw"],
        "SLURM_JOB_NAME": job["name"],
        "SLURM_JOB_PARTITION": job["partition"],
        "SLURM_JOB_NODELIST": cluster.hosts(job["node_list"]),
        "SLURM_JOB_NUM_NODES": str(job["nodes"]),
        "SLURM_NNODES": str(job["nodes"]),
        "SLURM_NTASKS": str(tasks),
        "SLURM_NTASKS_PER_NODE": str(job["tasks_per_node"]),
        "SLURM_NODEID": "0",
        "SLURM_PROCID": "0",
        "SLURM_LOCALID": "0",
        "SLURMD_NODENAME": job["node_list"][0],
        "SLURM_SUBMIT_DIR": job["folder"],
    }
    if job["gpus"]:
        variables["CUDA_VISIBLE_DEVICES"] = ",".join(str(number) for number in range(job["gpus"]))
    if job["index"] is not None:
        variables |= {"SLURM_ARRAY_JOB_ID": job["array"], "SLURM_ARRAY_TASK_ID": str(job["index"])}
    if job["restarts"]:
        variables["SLURM_RESTART_COUNT"] = str(job["restarts"])
    return variables
