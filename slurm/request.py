"""What a user asked for with `scaling submit`, kept in the output folder: the controller job and later commands use it,
even if the files that the user gave have changed since then."""

import os
from pathlib import Path

from pydantic import Field

from scaling.core.errors import UserError
from scaling.core.specs import Spec, parse_spec
from scaling.core.store import read_document, write_document
from slurm.budget_limit import request_path
from slurm.cluster import SlurmCluster
from sweeps.spec import Sweep


class Request(Spec):
    """OUT/slurm/request.json."""

    sweep: Sweep
    cluster: SlurmCluster
    budget_gpu_hours: float | None = Field(None, gt=0)
    command: str
    """The command line that a reader of the report would repeat."""


def save(out: Path, request: Request) -> None:
    """Writes the request, or replaces it."""
    write_document(request_path(out), request.model_dump(mode="json"))


def load(out: Path) -> Request:
    """Reads the request. Raises UserError where nothing was submitted from this folder, where the document is damaged,
    and where it belongs to another user, whose shell lines would run with our permissions."""
    path = request_path(out)
    if not path.exists():
        raise UserError(f"{out}: nothing was submitted from here; 'scaling submit SWEEP --cluster CLUSTER' does that")
    if path.stat().st_uid != os.geteuid():
        raise UserError(f"{path}: belongs to another user; submit to a folder of your own")
    return parse_spec(Request, read_document(path), str(path))


def find(out: Path) -> Request | None:
    """Reads the request, or gives None where nothing was submitted from this folder."""
    return load(out) if request_path(out).exists() else None


def restore(out: Path, before: Request | None) -> None:
    """Puts the request back that was there before one that could not be carried out."""
    if before is None:
        request_path(out).unlink(missing_ok=True)
    else:
        save(out, before)


def _path(out: Path) -> Path:
    return out / "slurm" / "request.json"
