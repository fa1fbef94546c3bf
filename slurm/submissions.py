"""What was given to the scheduler: a document for each job array, written before sbatch is called and again after it.

A document without an answer belongs to an array that SLURM may or may not have accepted: the launcher died, or SLURM
did not answer. It is looked up by the name of its job (`slurm.reconcile`). Only one launcher at a time works with these
documents.
"""

import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Self

from pydantic import Field, model_validator

from scaling.core.errors import UserError
from scaling.core.locks import locked
from scaling.core.specs import Spec, parse_spec
from scaling.core.store import append_jsonl, read_document, remove_temporary_files, write_document

Role = Literal["stages", "controller", "patrol"]
"""What the jobs of an array do: `stages` do one stage each; a `controller` job continues the sweep when the stages that
were submitted with it have ended; a `patrol` job does the same every hour until then."""
Answer = Literal["pending", "accepted", "never"]
"""What the scheduler has answered: nothing yet, that it accepted the array, or never anything although it was asked."""


class Submission(Spec):
    """One job array."""

    name: str
    """Name of the jobs. No other array has it, so that an array can be found without its number."""
    role: Role
    stages: tuple[str, ...] = ()
    """Ids of the stages by array index; empty for the other roles, whose arrays have one job."""
    gpus: int = Field(ge=0)
    """Number of GPUs of each job."""
    gpu_hours: tuple[float, ...] = ()
    """GPU-hours that each stage is expected to take."""
    at: float
    """Time of the submission, in seconds since the epoch."""
    answer: Answer = "pending"
    array: str | None = None
    """SLURM's number of the array, once it was accepted."""

    @model_validator(mode="after")
    def _is_consistent(self) -> Self:
        if (self.role == "stages") != bool(self.stages) or len(self.stages) != len(self.gpu_hours):
            raise ValueError(f"role '{self.role}' with {len(self.stages)} stages and {len(self.gpu_hours)} gpu_hours")
        if (self.answer == "accepted") != (self.array is not None):
            raise ValueError(f"answer '{self.answer}' with array {self.array}")
        return self

    def accepted(self, array: str) -> Self:
        """The submission with the number that the scheduler has given it."""
        return self.replace(answer="accepted", array=array)

    def never_accepted(self) -> Self:
        """The submission of an array that the scheduler does not know. If it appears later, it is a duplicate."""
        return self.replace(answer="never", array=None)

    @property
    def runs_stages(self) -> bool:
        """Whether its jobs do stages, and do not continue the sweep."""
        return self.role == "stages"

    @property
    def job_ids(self) -> tuple[str, ...]:
        """SLURM's names of its jobs, `<array>_<index>`; none where it was not accepted."""
        return tuple(f"{self.array}_{index}" for index in range(len(self.stages) or 1)) if self.array else ()

    def job_id(self, stage: str) -> str | None:
        """SLURM's name of the job of a stage, or None where the array was not accepted."""
        return f"{self.array}_{self.stages.index(stage)}" if self.array else None


@dataclass(frozen=True)
class SubmittedStage:
    """One stage of a submission."""

    submission: Submission
    job_id: str | None
    """SLURM's name of its job, or None where the array was not accepted."""


def latest_of_stages(submissions: Sequence[Submission]) -> dict[str, SubmittedStage]:
    """The latest submission of every stage, by id. `submissions` come oldest first."""
    latest: dict[str, SubmittedStage] = {}
    for submission in submissions:
        job_ids = submission.job_ids or (None,) * len(submission.stages)
        for stage, job_id in zip(submission.stages, job_ids, strict=False):
            latest[stage] = SubmittedStage(submission, job_id)
    return latest


class Submissions:
    """The documents of one output folder, in `OUT/slurm/`."""

    def __init__(self, out: Path) -> None:
        self.folder = out / "slurm"

    @contextmanager
    def exclusive(self) -> Iterator[None]:
        """Lets one launcher at a time work with the documents, and waits for the one that does. Raises UserError where
        the folder cannot be written or locked."""
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UserError(f"{self.folder}: cannot be written ({error.strerror}); choose another --out") from None
        with locked(self.folder / "lock"):
            remove_temporary_files(self.folder / "submissions")
            yield

    def all(self) -> list[Submission]:
        """All submissions, oldest first. Raises UserError where a document is damaged."""
        documents = [(read_document(path), str(path)) for path in self.folder.glob("submissions/*.json")]
        submissions = [parse_spec(Submission, document, path) for document, path in documents]
        return sorted(submissions, key=lambda submission: (submission.at, submission.name))

    def write(self, submission: Submission) -> None:
        """Writes the document of a submission, or replaces it."""
        write_document(self._path(submission), submission.model_dump(mode="json"))

    def withdraw(self, submission: Submission) -> None:
        """Removes the document of an array that the scheduler has refused."""
        self._path(submission).unlink()

    def jobs_folder(self, submission: Submission) -> Path:
        """The folder of its batch script, pickles and logs."""
        return self.folder / "jobs" / submission.name

    def log_budget(self, **row: object) -> None:
        """Appends a line to the ledger of GPU-hours."""
        append_jsonl(self.folder / "ledger.jsonl", row)

    def _path(self, submission: Submission) -> Path:
        return self.folder / "submissions" / f"{submission.name}.json"


def new_name(sweep_name: str) -> str:
    """A name for a job array that no other array has."""
    return f"{sweep_name}-{uuid.uuid4().hex[:8]}"
