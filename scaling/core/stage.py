"""A stage: one content-addressed step of the data flow, and the folder that holds all that it makes.

    data -> vae -> latents -> dit -> metrics      (reference: the real clips' side of the metrics)
            vae -> reconstruction                 (the VAE by the same metrics)
                   latents -> trunk -> dit        (a trunk is the beginning that several runs share)

A folder holds spec.json, attempts/, events.<attempt>.jsonl, whatever the kind makes (checkpoints/, samples/, ...),
record.json, and COMPLETE last. Nothing in a folder without COMPLETE is believed, except checkpoints that verify.
"""

import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

from pydantic import Field

from scaling.core import signals
from scaling.core.errors import UserError
from scaling.core.identity import RECIPE_VERSION, stage_id
from scaling.core.label import Label
from scaling.core.locks import is_locked, locked
from scaling.core.specs import (
    DataSpec,
    DiTSpec,
    EngineSpec,
    EvalSpec,
    FVDSpec,
    OptimSpec,
    Spec,
    TextSpec,
    VAESpec,
    VAETrainSpec,
    parse_spec,
)
from scaling.core.store import (
    append_jsonl,
    read_document,
    read_jsonl,
    remove_temporary_files,
    write_bytes,
    write_document,
)


class DataFields(Spec):
    """The semantic fields of a `data` stage, which has no parents."""

    kind: Literal["data"] = "data"
    data: DataSpec
    manifest: str | None = None
    """Hash of a user's folder: names, contents and captions. Worlds follow from their spec and need none."""


class VAEFields(Spec):
    """The semantic fields of a `vae` stage. Its parent is data."""

    kind: Literal["vae"] = "vae"
    vae: VAESpec
    train: VAETrainSpec


class LatentsFields(Spec):
    """The semantic fields of a `latents` stage. Its parents are data and vae."""

    kind: Literal["latents"] = "latents"
    text: TextSpec
    manifest: str | None = None
    """Hash of a user's text encoder: its weights, config and tokenizer. The other encoders' names identify them."""


class ReferenceFields(Spec):
    """The semantic fields of a `reference` stage, which holds the features of real clips. Its parent is data."""

    kind: Literal["reference"] = "reference"
    fvd: FVDSpec


class ReconstructionFields(Spec):
    """The semantic fields of a `reconstruction` stage. Its parents are vae and reference."""

    kind: Literal["reconstruction"] = "reconstruction"
    seed: int = Field(0, ge=0)
    """Seed of the extrapolation to infinitely many clips."""


class TrainingFields(Spec):
    """What the updates of a training run follow from."""

    dit: DiTSpec
    optim: OptimSpec
    flop_budget: float = Field(gt=0)
    """Training FLOPs asked for; the number of steps follows."""
    seed: int = Field(0, ge=0)
    """Seed of the first weights, the batches and the noise."""


class TrunkFields(TrainingFields):
    """The semantic fields of a `trunk` stage: the updates of a run before its learning rate falls. Its parents are vae,
    latents and, where there is one, the shorter trunk that it continues."""

    kind: Literal["trunk"] = "trunk"


class DiTFields(TrainingFields):
    """The semantic fields of a `dit` stage, a whole run. Its parents are vae, latents and, where there is one, its
    trunk."""

    kind: Literal["dit"] = "dit"
    evaluation: EvalSpec


class MetricsFields(Spec):
    """The semantic fields of a `metrics` stage. Its parents are dit, vae, latents and reference."""

    kind: Literal["metrics"] = "metrics"
    evaluation: EvalSpec


Fields = Annotated[
    DataFields
    | VAEFields
    | LatentsFields
    | ReferenceFields
    | ReconstructionFields
    | TrunkFields
    | DiTFields
    | MetricsFields,
    Field(discriminator="kind"),
]
"""The semantic fields of any stage; `kind` says which."""

F = TypeVar("F", bound=Spec)


class Stage(Label):
    """One step: what to do (`fields`), from what (`parents`), and, not hashed, for whom and with how much machine."""

    slug: str = Field(pattern=r"^[a-z0-9][a-z0-9_.-]*$")
    """The readable part of the id."""
    fields: Fields
    parents: dict[str, str] = {}
    """The role of each stage that this one needs, and that stage's id."""
    folder: str = ""
    """Where a user's videos are, or a user's text encoder. Not hashed: `manifest` says what they are."""
    captions: str = ""
    """Where a user's captions are, if not with the videos."""
    engine: EngineSpec = EngineSpec()
    """Not hashed: no result depends on it, except in the last bits."""

    @cached_property
    def id(self) -> str:
        """The slug and a hash of the semantic fields, the parents' ids and the recipe version."""
        return stage_id(self.slug, self.fields, self.parents)

    @property
    def kind(self) -> str:
        """The kind of the stage, which is the name of its module in `scaling.stages`."""
        return self.fields.kind

    @property
    def label(self) -> Label:
        """For whom the stage is done."""
        return Label(**{name: getattr(self, name) for name in Label.model_fields})

    def fields_as(self, kind: type[F]) -> F:
        """The fields, known to be of this class."""
        assert isinstance(self.fields, kind), f"{self.id} is a {self.kind} stage, not one with {kind.__name__}"
        return self.fields


def moment(share: float) -> str:
    """Folder of the samples drawn after this share of the training, such as `at-0.3`."""
    return f"at-{share:g}"


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
        gives = (one for one in versions if stage_id(stage.slug, stage.fields, stage.parents, one) == self.path.name)
        return stage, next(gives, None)

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

    def claim_attempt(self, job: str = "", gpus: int = 0) -> "Events":
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

    def events_of_attempt(self, rank: int = 0) -> "Events":
        """The event log of the latest attempt, for those who work on it: a file for each, so that each has one
        writer."""
        who = f".rank-{rank}" if rank else ""
        return Events(self.path / f"events.{self.attempts:04d}{who}.jsonl")

    @property
    def attempts(self) -> int:
        """How often somebody has begun to work here."""
        return max((int(path.stem) for path in (self.path / "attempts").glob("[0-9]*.json")), default=0)

    def events(self, after: int = 0) -> list[dict[str, Any]]:
        """The events of the latest attempt, oldest first; none if it is not later than attempt `after`."""
        return read_jsonl(self.events_of_attempt().path) if self.attempts > after else []


class Events:
    """What a stage says while it works: progress for people, never a source of results."""

    def __init__(self, path: Path) -> None:
        self.path, self.opened = path, time.monotonic()

    def log(self, **row: Any) -> None:
        """Appends one event, such as `done=120, total=800, loss=0.61`, and `seconds` since the log was opened."""
        append_jsonl(self.path, {**row, "seconds": round(time.monotonic() - self.opened, 3)})

    def progress(self, done: int, total: int, **row: Any) -> None:
        """`log`, from work that can stop here. Raises StoppedError where it should."""
        self.log(done=done, total=total, **row)
        signals.check()
