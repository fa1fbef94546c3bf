"""What was asked for when a sweep was submitted, kept in its output folder: the steering job goes by it, and so do
later commands, whatever became of the files that the user gave."""

import os
from pathlib import Path

from pydantic import Field

from scaling.core.errors import UserError
from scaling.core.specs import Spec, parse_spec
from scaling.core.store import read_document, write_document
from slurm.cluster import SlurmCluster
from sweeps.spec import Sweep

LAST_WORDS = "steering.json"


class Request(Spec):
    """OUT/slurm/request.json."""

    sweep: Sweep
    cluster: SlurmCluster
    budget_gpu_hours: float | None = Field(None, gt=0)
    command: str
    """The line that a reader of the report would repeat."""


def save(out: Path, request: Request) -> None:
    """From now on the steering job goes by this one."""
    write_document(_path(out), request.model_dump(mode="json"))


def load(out: Path) -> Request:
    """Raises UserError where the folder was never submitted from, or by somebody else, whose shell lines would run as
    ours, or the document is damaged."""
    path = _path(out)
    if not path.exists():
        raise UserError(f"{out}: nothing was submitted from here; 'scaling submit SWEEP --cluster CLUSTER' does that")
    if path.stat().st_uid != os.geteuid():
        raise UserError(f"{path}: belongs to another user; submit to a folder of your own")
    return parse_spec(Request, read_document(path), str(path))


def find(out: Path) -> Request | None:
    """`load`, where the folder was submitted from."""
    return load(out) if _path(out).exists() else None


def restore(out: Path, before: Request | None) -> None:
    """Takes back what was not carried out."""
    if before is None:
        _path(out).unlink(missing_ok=True)
    else:
        save(out, before)


def say_last(out: Path, words: str, *, failed: bool) -> None:
    """Keeps what the job that goes on with the sweep came to, for people who look at its status."""
    write_document(out / "slurm" / LAST_WORDS, {"words": words, "failed": failed})


def said_last(out: Path) -> str | None:
    """None where it has not said anything yet."""
    path = out / "slurm" / LAST_WORDS
    document = read_document(path) if path.exists() else {}
    return document.get("words") if isinstance(document, dict) else None


def budget_of(out: Path) -> float | None:
    """GPU-hours, where the folder was submitted from with a limit."""
    path = _path(out)
    return parse_spec(Request, read_document(path), str(path)).budget_gpu_hours if path.exists() else None


def _path(out: Path) -> Path:
    return out / "slurm" / "request.json"
