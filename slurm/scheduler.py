"""SLURM's commands with patience and without a storm of calls. What the answers mean for a sweep, others know.

Every call has a time limit. A scheduler that does not answer is left alone for a while, longer each time, by all
processes that work on the same sweep: the circuit breaker is a file. Queries are at least 30 s apart.
"""

import os
import subprocess
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from scaling.core.errors import StageError, UserError
from scaling.core.store import read_document, write_document

PATIENCE_SECONDS = 60.0
"""For one call; a busy controller answers after tens of seconds."""
FAILURES = 3
"""Calls without an answer, one after another, after which the breaker opens."""
FIRST_PAUSE, LONGEST_PAUSE = 30.0, 480.0
"""Seconds that it stays open: twice as long each time."""
QUERY_SECONDS = 30.0
"""Least time between two queries."""
NO_ANSWER = (
    "Unable to contact slurm controller",
    "Socket timed out",
    "Connection refused",
    "Connection timed out",
    "Zero Bytes were transmitted",
    "Unexpected message received",
    "Message receive failure",
    "slurm_persist_conn_open",
    "Slurm temporarily unable to accept job",
    "Resource temporarily unavailable",
)
"""What SLURM's commands say when the controller did not answer: the request may have reached it all the same."""
FULL = ("QOSMaxSubmitJobPerUserLimit", "AssocMaxSubmitJobLimit", "job submit limit", "Reached MaxJobCount")
"""What sbatch says when no more jobs are taken for now."""
HELD = "launch failed requeued held"
"""Reason of a job that its node could not start again, often because what was left of it was still there. It waits for
its owner, or an administrator, to let it go on."""
OVER = ("Invalid job id specified", "Job/step already completing or completed")
"""What scancel says of jobs that have ended."""


class SchedulerDownError(StageError):
    """The scheduler does not answer; `wait` says for how many seconds it will not be asked again."""

    def __init__(self, words: str, wait: float = 0.0) -> None:
        super().__init__(words)
        self.wait = wait


class RefusedError(UserError):
    """The scheduler answered that it will not; the text is its own."""


class FullError(RefusedError):
    """It takes no more jobs for now."""


@dataclass(frozen=True)
class Element:
    """One index of a job array, as squeue has it."""

    id: str
    """`<array>_<index>`."""
    state: str
    """Such as PENDING or RUNNING."""
    reason: str
    name: str
    """The job's."""

    @property
    def array(self) -> str:
        return self.id.partition("_")[0]


class Scheduler:
    """The commands of one SLURM, for one folder of a sweep."""

    def __init__(
        self, folder: Path, *, clock: Callable[[], float] = time.time, patience: float = PATIENCE_SECONDS
    ) -> None:
        """`folder` keeps the breaker. `clock` gives seconds since the epoch."""
        self.breaker, self.clock, self.patience = folder / "breaker.json", clock, patience

    def submit(self, script: Path) -> str:
        """The array's number. Raises RefusedError, or SchedulerDownError: then it may be submitted all the same."""
        return self.call("sbatch", "--parsable", str(script)).strip().split(";")[0]

    def queue(self) -> list[Element]:
        """All jobs of this user that have not ended, pending array indices one by one."""
        text = self.call("squeue", "--noheader", "--array", "--me", "--format=%F_%K|%T|%r|%j")
        return [Element(*line.strip().split("|", 3)) for line in text.splitlines() if line.strip()]

    def ended(self, arrays: Sequence[str]) -> dict[str, str]:
        """`<array>_<index>` -> state, such as NODE_FAIL, from accounting. Raises RefusedError where there is none."""
        options = ("--noheader", "--parsable2", "--allocations", "--format=JobID,State")
        text = self.call("sacct", *options, f"--jobs={','.join(arrays)}")
        rows = (line.split("|", 1) for line in text.splitlines() if "|" in line)
        return {job: state.split()[0] for job, state in rows if state.split()}

    def named(self, name: str) -> list[str]:
        """Numbers of the arrays of this name that are in the queue."""
        text = self.call("squeue", "--noheader", "--array", "--me", f"--name={name}", "--format=%F")
        return sorted(set(text.split()), key=int)

    def is_known(self, array: str, name: str) -> bool:
        """Whether the controller still knows of an index of this array, of this name, that has not ended."""
        try:
            text = self.call("scontrol", "show", "job", "--oneliner", array)
        except RefusedError as refusal:
            if OVER[0] not in str(refusal):
                raise
            return False
        return f"JobName={name} " in text and any(
            f"JobState={state}" in text for state in ("PENDING", "RUNNING", "SUSPENDED", "COMPLETING", "REQUEUED")
        )

    def cancel(self, elements: Sequence[str]) -> None:
        """Of jobs and arrays; those that have ended meanwhile are left out."""
        try:
            self.call("scancel", *elements)
        except RefusedError as refusal:
            if not any(phrase in str(refusal) for phrase in OVER):
                raise

    def release(self, elements: Sequence[str]) -> None:
        """Of jobs that are held."""
        self.call("scontrol", "release", ",".join(elements))

    def config(self) -> dict[str, str]:
        """The configuration that every user may read, such as MaxArraySize."""
        lines = (line.split("=", 1) for line in self.call("scontrol", "show", "config").splitlines() if "=" in line)
        return {key.strip(): value.strip() for key, value in lines}

    def partitions(self) -> list[list[str]]:
        """For every partition and kind of node: name, GRES, nodes, longest job, CPUs and MB of a node."""
        text = self.call("sinfo", "--noheader", "--format=%R|%G|%D|%l|%c|%m")
        return [line.strip().split("|") for line in text.splitlines() if line.strip()]

    def call(self, *command: str) -> str:
        """Runs a command and gives its output."""
        self._refuse_if_open()
        try:
            done = subprocess.run(
                command, capture_output=True, text=True, timeout=self.patience, check=False, env=_environment()
            )
        except FileNotFoundError:
            raise UserError(
                f"{command[0]}: not found; this machine is no SLURM node, or SLURM is not on PATH"
            ) from None
        except subprocess.TimeoutExpired:
            raise self._failed(f"{command[0]} gave no answer in {self.patience:g} s") from None
        if done.returncode:
            words = " ".join((done.stderr or done.stdout).split())
            if any(phrase in words for phrase in NO_ANSWER):
                raise self._failed(words)
            self.breaker.unlink(missing_ok=True)
            raise (FullError if any(phrase in words for phrase in FULL) else RefusedError)(words)
        self.breaker.unlink(missing_ok=True)
        return done.stdout

    def _refuse_if_open(self) -> None:
        state = self._state()
        wait = state["until"] - self.clock()
        if 0 < wait <= LONGEST_PAUSE:  # longer: somebody set a clock
            raise SchedulerDownError(f"the scheduler does not answer ({state['words']})", wait)

    def _failed(self, words: str) -> SchedulerDownError:
        count = self._state()["failures"] + 1
        pause = 0.0 if count < FAILURES else min(LONGEST_PAUSE, FIRST_PAUSE * 2 ** (count - FAILURES))
        write_document(self.breaker, {"failures": count, "until": self.clock() + pause, "words": words})
        return SchedulerDownError(f"the scheduler does not answer ({words})", pause)

    def _state(self) -> dict:
        try:
            return {"failures": 0, "until": 0.0, "words": "", **read_document(self.breaker)}
        except (UserError, TypeError):  # none, or torn: it holds nothing that is missed
            return {"failures": 0, "until": 0.0, "words": ""}


def _environment() -> dict[str, str]:
    """Without what SLURM takes for options: a user's habits, and what a job inherits from the job that submits it."""
    inherited = (
        *("SLURM_", "SBATCH_", "SRUN_", "SQUEUE_", "SINFO_", "SACCT_", "SCANCEL_", "SCONTROL_", "SUBMITIT_"),
        *("RANK", "WORLD_SIZE", "LOCAL_", "MASTER_", "SCALING_JOINED"),
    )
    return {key: value for key, value in os.environ.items() if key == "SLURM_CONF" or not key.startswith(inherited)}
