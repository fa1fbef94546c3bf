"""The message that the controller job leaves at its end, for people who look at the status of a sweep."""

from pathlib import Path

from scaling.core.specs import Spec, parse_spec
from scaling.core.store import read_document, write_document


class ControllerMessage(Spec):
    """OUT/slurm/controller.json."""

    message: str
    failed: bool
    """Whether the controller job could not continue the sweep."""


def write_controller_message(out: Path, message: str, *, failed: bool) -> None:
    """Replaces the message of the latest controller job."""
    write_document(_path(out), ControllerMessage(message=message, failed=failed).model_dump(mode="json"))


def read_controller_message(out: Path) -> str | None:
    """The message of the latest controller job, or None where none has ended yet. Raises UserError where the document
    is damaged."""
    path = _path(out)
    return parse_spec(ControllerMessage, read_document(path), str(path)).message if path.exists() else None


def _path(out: Path) -> Path:
    return out / "slurm" / "controller.json"
