"""What the files of an output folder say of single stages, and of those that are not complete. Starts nothing, asks no
scheduler, imports no torch. Why a sweep would run a stage again is in `sweeps.explain`."""

from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from scaling.core.attempts import Attempt, attempts
from scaling.core.errors import UserError
from scaling.core.stage import Stage
from scaling.core.stage_fields import DataFields, TrainingFields
from scaling.core.stage_folder import StageFolder
from sweeps.explain import Completion, Explainer, state, unfinished


@dataclass(frozen=True)
class Successor:
    """A stage in a sweep as it is now."""

    id: str | None
    """Of the stage itself, or of the one that takes its place; None where the sweep has no such stage."""
    changes: tuple[str, ...]
    """How the stage that takes its place differs from it."""


@dataclass(frozen=True)
class StageDetails:
    """All that is known of one stage."""

    id: str
    kind: str
    sweep: str
    compute: str
    what: str
    """What the stage makes, in a few words."""
    state: Completion
    attempts: tuple[Attempt, ...]
    waits_for: dict[str, Completion]
    """Id -> state of the stages that it needs."""
    waited_for_by: dict[str, Completion]
    """Id -> state of the stages that need it."""
    now: Successor | None
    """None where no sweep is given to compare with."""

    def to_document(self) -> dict[str, Any]:
        document = asdict(self)
        return document if self.now is not None else {name: document[name] for name in document if name != "now"}


class StageFolders:
    """The stages of an output folder."""

    def __init__(self, out: Path) -> None:
        """Raises UserError where there is no folder of runs, or a spec.json is damaged."""
        self.runs = out / "runs"
        if not self.runs.is_dir():
            raise UserError(f"{self.runs}: no such folder; give the --out of a sweep")
        paths = [path for path in sorted(self.runs.iterdir()) if (path / "spec.json").exists()]
        self.folders = {path.name: StageFolder(path) for path in paths}

    @cached_property
    def stages(self) -> dict[str, Stage]:
        """The stages by id."""
        return {name: folder.described()[0] for name, folder in self.folders.items()}

    def incomplete(self) -> dict[str, Any]:
        """How many stages are complete, and how far each of the others came."""
        states = {name: state(folder) for name, folder in self.folders.items()}
        return {
            "complete": sum(completion == "complete" for completion in states.values()),
            "incomplete": [
                {"id": name, "state": completion, "text": self._progress(name, completion)}
                for name, completion in states.items()
                if completion != "complete"
            ],
        }

    def details(self, identity: str, explainer: Explainer | None) -> StageDetails:
        """All that is known of a stage, compared with the sweep of `explainer` if there is one."""
        stage, folder = self.stages[identity], self.folders[identity]
        needing = [name for name, candidate in self.stages.items() if identity in candidate.parents.values()]
        return StageDetails(
            id=identity,
            kind=stage.kind,
            sweep=stage.sweep,
            compute=stage.compute,
            what=_product(stage),
            state=state(folder),
            attempts=tuple(attempts(folder)),
            waits_for={parent: state(StageFolder(self.runs / parent)) for parent in stage.parents.values()},
            waited_for_by={name: state(self.folders[name]) for name in needing},
            now=None if explainer is None else _successor(explainer, identity),
        )

    def _progress(self, name: str, completion: Completion) -> str:
        folder = self.folders[name]
        return unfinished(attempts(folder)) if folder.attempts else completion


def _successor(explainer: Explainer, identity: str) -> Successor:
    if identity in explainer.stages:
        return Successor(identity, ())
    successor = explainer.successor(identity)
    if successor is None:
        return Successor(None, ())
    return Successor(successor[0], tuple(reason.text for reason in successor[1]))


def _product(stage: Stage) -> str:
    """What a stage makes, in a few words."""
    fields = stage.fields
    if isinstance(fields, TrainingFields):
        product = "run" if stage.kind == "dit" else "trunk of runs"
        return f"{product} of {fields.dit.width}x{fields.dit.depth} at {fields.flop_budget:.3g} FLOPs"
    if isinstance(fields, DataFields) and fields.data.folder is not None:
        return f"videos of {stage.folder}"
    return {
        "data": "procedural worlds",
        "vae": "the VAE's training",
        "latents": "latents of every clip",
        "reference": "features of real clips",
        "reconstruction": "the VAE's metrics",
        "metrics": "a run's metrics",
    }[stage.kind]
