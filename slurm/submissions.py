"""What was handed to the scheduler: a document for each job array, written before sbatch is called and again after.

An array whose document has no number was perhaps submitted, perhaps not: it is looked up by its name. All of it belongs
to one launcher at a time.
"""

import fcntl
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pydantic import Field

from scaling.core.errors import UserError
from scaling.core.specs import Spec, parse_spec
from scaling.core.store import append_jsonl, read_document, sweep, write_document

STEERING, PATROL = "steering", "patrol"
"""Stand in place of a stage's id in the jobs that go on with the sweep: when all others have ended, and every now and
then."""


class Submission(Spec):
    """One job array."""

    name: str
    """The job's."""
    stages: tuple[str, ...]
    """Ids by index."""
    gpus: int = Field(ge=0)
    """Of each."""
    gpu_hours: tuple[float, ...]
    """What each is expected to take."""
    at: float
    """Seconds since the epoch."""
    job: str | None = None
    """The array's number; None where the scheduler has not answered."""

    @property
    def is_steering(self) -> bool:
        return self.stages[0] in (STEERING, PATROL)

    def element(self, stage: str) -> str:
        """The scheduler's name for the job of a stage."""
        return f"{self.job}_{self.stages.index(stage)}"


class Submissions:
    """The documents of one output folder, in `OUT/slurm/`."""

    def __init__(self, out: Path) -> None:
        self.folder = out / "slurm"

    @contextmanager
    def alone(self) -> Iterator[None]:
        """One launcher at a time; the kernel frees the lock when its holder dies. Raises UserError where the folder
        cannot be written."""
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            file = open(self.folder / "lock", "a")  # noqa: SIM115 # closed below, with the lock
        except OSError as error:
            raise UserError(f"{self.folder}: cannot be written ({error.strerror}); choose another --out") from None
        with file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX)
            except OSError as error:
                raise UserError(
                    f"{file.name}: cannot be locked ({error.strerror}); choose another file system"
                ) from None
            sweep(self.folder / "submissions")
            yield

    def all(self) -> list[Submission]:
        """Oldest first. Raises UserError where a document is damaged."""
        found = [
            parse_spec(Submission, read_document(path), str(path)) for path in self.folder.glob("submissions/*.json")
        ]
        return sorted(found, key=lambda one: (one.at, one.name))

    def write(self, submission: Submission) -> None:
        """Its document, new or anew."""
        write_document(self._path(submission), submission.model_dump(mode="json"))

    def withdraw(self, submission: Submission) -> None:
        """Forgets what the scheduler has refused."""
        self._path(submission).unlink()

    def jobs_folder(self, submission: Submission) -> Path:
        """For its script, pickles and logs."""
        return self.folder / "jobs" / submission.name

    def note(self, **row: object) -> None:
        """Appends to the ledger of GPU-hours."""
        append_jsonl(self.folder / "ledger.jsonl", row)

    def _path(self, submission: Submission) -> Path:
        return self.folder / "submissions" / f"{submission.name}.json"


def new_name(sweep_name: str) -> str:
    """A name for a job array that no other has."""
    return f"{sweep_name}-{uuid.uuid4().hex[:8]}"
