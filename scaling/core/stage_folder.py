"""The folder of a stage. It holds spec.json, attempts/, events.<attempt>.jsonl, whatever the kind makes (checkpoints/,
samples/, ...), record.json, and COMPLETE last. Nothing in a folder without COMPLETE is believed, except checkpoints
that verify."""

import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from scaling.core.errors import UserError
from scaling.core.events import Events
from scaling.core.identity import RECIPE_VERSION, stage_id
from scaling.core.locks import is_locked, locked
from scaling.core.specs import parse_spec
from scaling.core.stage import Stage
from scaling.core.store import read_document, read_jsonl, remove_temporary_files, write_bytes, write_document


class StageFolder:
    """The folder `runs/<id>` of one stage."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @classmethod
    def create(cls, runs: Path, stage: Stage) -> "StageFolder":
        """Makes the folder and its spec.json; one that is there takes the placement of `stage`.

        Raises UserError where a spec.json is there but is broken or of another id.
        """
        folder = cls(runs / stage.id)
        if not folder.spec_path.exists() or folder.stage() != stage:
            spec = {"id": stage.id, "recipe": RECIPE_VERSION, **stage.model_dump(mode="json")}
            write_document(folder.spec_path, spec)
        return folder

    @property
    def spec_path(self) -> Path:
        return self.path / "spec.json"

    @property
    def record_path(self) -> Path:
        return self.path / "record.json"

    @property
    def samples_path(self) -> Path:
        return self.path / "samples"

    def samples_after(self, share: float) -> Path:
        """Folder of the samples drawn after this share of the training, such as `samples/at-0.3`."""
        return self.samples_path / f"at-{share:g}"

    @property
    def complete(self) -> bool:
        return (self.path / "COMPLETE").exists()

    def stage(self) -> Stage:
        """The stage as spec.json has it. Raises UserError if the file is missing, broken, of another id or of another
        recipe."""
        stage, recipe = self.described()
        if recipe is None:
            raise UserError(f"{self.spec_path}: describes {stage.id}; was it edited? Remove the folder and run again")
        if recipe != RECIPE_VERSION:
            raise UserError(
                f"{self.spec_path}: made by recipe version {recipe}, but this code has version {RECIPE_VERSION}; "
                "run the sweep again"
            )
        return stage

    def described(self) -> tuple[Stage, int | None]:
        """What spec.json describes, of this id or not, and the recipe version that gives it this id; None where none
        does. Raises UserError if the file is missing or broken."""
        document = read_document(self.spec_path)
        fields = document
        if isinstance(document, dict):
            fields = {key: value for key, value in document.items() if key not in ("id", "recipe")}
        stage = parse_spec(Stage, fields, str(self.spec_path))
        # Specs did not always say by which recipe they were made.
        versions = [document["recipe"]] if "recipe" in document else range(RECIPE_VERSION, 0, -1)
        matching_versions = (
            version
            for version in versions
            if stage_id(stage.slug, stage.fields, stage.parents, version) == self.path.name
        )
        return stage, next(matching_versions, None)

    def parent(self, role: str) -> "StageFolder":
        """The folder of a parent. Raises KeyError where the stage has no such parent."""
        return StageFolder(self.path.parent / self.stage().parents[role])

    def finish(self) -> None:
        """Marks everything in the folder as believable. Called last."""
        write_bytes(self.path / "COMPLETE", b"")

    @contextmanager
    def exclusive(self) -> Iterator[None]:
        """Lets one process at a time work in the folder, and waits for the one that does. Removes the temporary files
        of processes that were killed.

        Raises StoppedError where a signal asks this process to stop while it waits.
        """
        self.path.mkdir(parents=True, exist_ok=True)
        with locked(self.path / "lock"):
            remove_temporary_files(self.path, keep=self.spec_path.name)  # `create` writes the spec without the lock
            yield

    def is_worked_on(self) -> bool:
        """Whether a process is inside of `exclusive`."""
        return is_locked(self.path / "lock")

    def claim_attempt(self, job: str = "", gpus: int = 0) -> Events:
        """Opens the next attempt: an exclusive file in attempts/ and an event log of its own. `job` is the scheduler's
        name for who works, with so many GPUs."""
        attempts = self.path / "attempts"
        attempts.mkdir(parents=True, exist_ok=True)
        number = self.attempts + 1
        path = attempts / f"{number:04d}.json"
        descriptor = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY)
        os.close(descriptor)
        facts = {"pid": os.getpid(), "host": socket.gethostname(), "began": round(time.time(), 3), "job": job}
        write_document(path, {"attempt": number, **facts, "gpus": gpus})
        return self.events_of_attempt()

    def events_of_attempt(self, rank: int = 0) -> Events:
        """The event log of the latest attempt, for those who work on it: a file for each, so that each has one
        writer."""
        suffix = f".rank-{rank}" if rank else ""
        return Events(self.path / f"events.{self.attempts:04d}{suffix}.jsonl")

    @property
    def attempts(self) -> int:
        """How often somebody has begun to work here."""
        return max((int(path.stem) for path in (self.path / "attempts").glob("[0-9]*.json")), default=0)

    def events(self, after: int = 0) -> list[dict[str, Any]]:
        """The events of the latest attempt, oldest first; none if it is not later than attempt `after`."""
        return read_jsonl(self.events_of_attempt().path) if self.attempts > after else []
