"""SLURM's commands, called with a time limit and not too often. Not what the answers mean for a sweep.

When the scheduler does not answer several times in a row, a circuit breaker opens: for some time, longer each time,
none of the processes that work on the same sweep calls it. The breaker is a file. It needs no lock, because a lost
update only makes one call more or less.
"""

import os
import subprocess
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from scaling.core.errors import StageError, UserError
from scaling.core.specs import Spec, parse_spec
from scaling.core.store import read_document, write_document

TIMEOUT = 60.0
"""Seconds that one call may take; a busy controller answers after tens of seconds."""
FAILURES = 3
"""Number of calls without an answer, one after another, after which the breaker opens."""
FIRST_PAUSE, LONGEST_PAUSE = 30.0, 480.0
"""Seconds that the breaker stays open: first and at most, twice as long each time."""
QUERY_SECONDS = 30.0
"""Least time between two questions about the queue."""
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
"""Messages of SLURM's commands when its controller did not answer. It may have received the request nevertheless."""
FULL = ("QOSMaxSubmitJobPerUserLimit", "AssocMaxSubmitJobLimit", "job submit limit", "Reached MaxJobCount")
"""Messages of sbatch when SLURM accepts no more jobs at the moment."""
REASON_HELD = "launch failed requeued held"
"""Reason that SLURM gives for a job that a node could not start again, often because processes of its last start still
ran there. Such a job waits until its owner or an administrator releases it."""
INVALID_JOB = "Invalid job id specified"
ENDED = (INVALID_JOB, "Job/step already completing or completed")
"""Messages of scancel for jobs that have ended."""


class SchedulerDownError(StageError):
    """The scheduler does not answer. It will not be called again for `wait` seconds."""

    def __init__(self, message: str, wait: float = 0.0) -> None:
        super().__init__(message)
        self.wait = wait


class RefusedError(UserError):
    """The scheduler refused a request; the text is its message."""


class FullError(RefusedError):
    """The scheduler accepts no more jobs at the moment."""


class Breaker(Spec):
    """breaker.json."""

    failures: int = 0
    """Number of calls without an answer, one after another."""
    until: float = 0.0
    """Time until which nobody calls the scheduler, in seconds since the epoch."""
    message: str = ""
    """Message of the last call."""


@dataclass(frozen=True)
class QueueRow:
    """One line of squeue: a job, which is one index of a job array."""

    job_id: str
    """SLURM's name of the job, `<array>_<index>`."""
    state: str
    """SLURM's state, such as PENDING or RUNNING."""
    reason: str
    """SLURM's reason why it waits."""
    name: str
    """Name that we gave the job."""

    @property
    def array(self) -> str:
        """Number of the job array."""
        return self.job_id.partition("_")[0]


class Scheduler:
    """The commands of a SLURM cluster, for the output folder of one sweep."""

    def __init__(self, folder: Path, *, clock: Callable[[], float] = time.time, timeout: float = TIMEOUT) -> None:
        """`folder` holds the circuit breaker's file. `clock` gives seconds since the epoch. `timeout` is the number of
        seconds that one call may take."""
        self.breaker, self.clock, self.timeout = folder / "breaker.json", clock, timeout

    def submit(self, script: Path) -> str:
        """Submits a batch script and gives the number of its array. Raises RefusedError, and SchedulerDownError, after
        which it may have been accepted nevertheless."""
        return self.call("sbatch", "--parsable", str(script)).strip().split(";")[0]

    def queue(self) -> list[QueueRow]:
        """All jobs of this user that have not ended, with a row for every index of an array."""
        text = self.call("squeue", "--noheader", "--array", "--me", "--format=%F_%K|%T|%r|%j")
        return [QueueRow(*line.strip().split("|", 3)) for line in text.splitlines() if line.strip()]

    def ended(self, arrays: Sequence[str]) -> dict[str, str]:
        """The final state, such as NODE_FAIL, by `<array>_<index>`, from accounting. Raises RefusedError where the
        cluster has no accounting."""
        options = ("--noheader", "--parsable2", "--allocations", "--format=JobID,State")
        text = self.call("sacct", *options, f"--jobs={','.join(arrays)}")
        rows = (line.split("|", 1) for line in text.splitlines() if "|" in line)
        return {job: state.split()[0] for job, state in rows if state.split()}

    def arrays_named(self, name: str) -> list[str]:
        """The numbers of the arrays in the queue whose jobs have this name."""
        text = self.call("squeue", "--noheader", "--array", "--me", f"--name={name}", "--format=%F")
        return sorted(set(text.split()), key=int)

    def is_known(self, array: str, name: str) -> bool:
        """Whether SLURM's controller knows a job of this array and name that has not ended."""
        try:
            text = self.call("scontrol", "show", "job", "--oneliner", array)
        except RefusedError as refusal:
            if INVALID_JOB not in str(refusal):
                raise
            return False
        return f"JobName={name} " in text and any(
            f"JobState={state}" in text for state in ("PENDING", "RUNNING", "SUSPENDED", "COMPLETING", "REQUEUED")
        )

    def cancel(self, job_ids: Sequence[str]) -> None:
        """Cancels jobs and whole arrays; those that have ended meanwhile are no error."""
        try:
            self.call("scancel", *job_ids)
        except RefusedError as refusal:
            if not any(phrase in str(refusal) for phrase in ENDED):
                raise

    def release(self, job_ids: Sequence[str]) -> None:
        """Lets jobs start that SLURM holds."""
        self.call("scontrol", "release", ",".join(job_ids))

    def config(self) -> dict[str, str]:
        """SLURM's configuration, such as MaxArraySize, which every user may read."""
        lines = (line.split("=", 1) for line in self.call("scontrol", "show", "config").splitlines() if "=" in line)
        return {key.strip(): value.strip() for key, value in lines}

    def partitions(self) -> list[list[str]]:
        """A row for every partition and kind of node: name, GRES, number of nodes, longest job, CPUs of a node, MB of a
        node."""
        text = self.call("sinfo", "--noheader", "--format=%R|%G|%D|%l|%c|%m")
        return [line.strip().split("|") for line in text.splitlines() if line.strip()]

    def call(self, *command: str) -> str:
        """Runs a command and gives its output. Raises SchedulerDownError, RefusedError and UserError."""
        self._refuse_if_open()
        try:
            process = subprocess.run(
                command, capture_output=True, text=True, timeout=self.timeout, check=False, env=_environment()
            )
        except FileNotFoundError:
            raise UserError(
                f"{command[0]}: command not found; run this on a machine with SLURM's commands, or add them to PATH"
            ) from None
        except subprocess.TimeoutExpired:
            raise self._failed(f"{command[0]} gave no answer in {self.timeout:g} s") from None
        if process.returncode:
            message = " ".join((process.stderr or process.stdout).split())
            if any(phrase in message for phrase in NO_ANSWER):
                raise self._failed(message)
            self.breaker.unlink(missing_ok=True)
            raise (FullError if any(phrase in message for phrase in FULL) else RefusedError)(message)
        self.breaker.unlink(missing_ok=True)
        return process.stdout

    def _refuse_if_open(self) -> None:
        breaker = self._breaker_state()
        wait = breaker.until - self.clock()
        if 0 < wait <= LONGEST_PAUSE:  # longer: somebody has set a clock
            raise SchedulerDownError(f"the scheduler does not answer ({breaker.message})", wait)

    def _failed(self, message: str) -> SchedulerDownError:
        failures = self._breaker_state().failures + 1
        pause = 0.0 if failures < FAILURES else min(LONGEST_PAUSE, FIRST_PAUSE * 2 ** (failures - FAILURES))
        breaker = Breaker(failures=failures, until=self.clock() + pause, message=message)
        write_document(self.breaker, breaker.model_dump(mode="json"))
        return SchedulerDownError(f"the scheduler does not answer ({message})", pause)

    def _breaker_state(self) -> Breaker:
        try:
            return parse_spec(Breaker, read_document(self.breaker), str(self.breaker))
        except UserError:  # missing or damaged: then the breaker is closed, which costs a few calls at most
            return Breaker()


def _environment() -> dict[str, str]:
    """The environment of this process without the variables that SLURM's commands read as options, which a user may
    have set, and without those of the job that this process may run in."""
    inherited = (
        *("SLURM_", "SBATCH_", "SRUN_", "SQUEUE_", "SINFO_", "SACCT_", "SCANCEL_", "SCONTROL_", "SUBMITIT_"),
        *("RANK", "WORLD_SIZE", "LOCAL_", "MASTER_", "SCALING_JOINED"),
    )
    return {key: value for key, value in os.environ.items() if key == "SLURM_CONF" or not key.startswith(inherited)}
