"""Why a stage is not complete: it was begun and is not finished, or nothing like it is there, or what is there is of
another spec, of which the field that changed is named, its own or a parent's. Reads a folder of runs. No torch.

An id says that something differs and not what. So a stage is compared with its predecessor: the folder of the same
name and budget that the sweep, as it is now, has no use for.
"""

import json
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from scaling.core.attempts import Attempt, attempts
from scaling.core.errors import UserError
from scaling.core.identity import RECIPE_VERSION
from scaling.core.stage import Stage, StageFolder

State = Literal["complete", "unfinished", "never tried"]
SHOWN = 60
"""Characters of a value, at most."""
MANIFESTS = {"data": "its videos or captions", "latents": "its text encoder's files"}
"""What a manifest is of: two hashes would say nothing."""


@dataclass(frozen=True)
class Reason:
    """Why a stage has to be done."""

    text: str
    against: str = ""
    """The folder that it was compared with."""


@dataclass(frozen=True)
class Explained:
    """Why one stage has to be done."""

    id: str
    kind: str
    reasons: tuple[Reason, ...]


@dataclass(frozen=True)
class Cause:
    """Stages that have to be done for the same reason."""

    reason: str
    stages: tuple[Explained, ...]
    against: tuple[str, ...]
    """The folders that were compared."""

    def to_document(self) -> dict[str, Any]:
        stages = [stage.id for stage in self.stages]
        return {"reason": self.reason, "stages": stages, "against": list(self.against), "text": str(self)}

    def __str__(self) -> str:
        kinds = [stage.kind for stage in self.stages]
        counts = [f"{kinds.count(kind)} {kind}" for kind in dict.fromkeys(kinds)]
        who = f"{len(kinds)} stages ({', '.join(counts)})" if len(counts) > 1 else f"{counts[0]} stages"
        who = self.stages[0].id if len(kinds) == 1 else who
        others = f" and {len(self.against) - 1} others" if len(self.against) > 1 else ""
        against = f" (against {self.against[0]}{others})" if self.against else ""
        return f"{who}: {self.reason}{against}"


@dataclass(frozen=True)
class _Change:
    """A difference between a stage and its predecessor, at the stage where it is."""

    text: str
    kind: str
    """Of that stage; empty for the recipe, which is everybody's."""
    stage: str
    """Its id."""
    against: str

    def told_of(self, stage: str) -> Reason:
        """As the reason of that stage or of one that comes from it."""
        return Reason(
            self.text if self.stage == stage or not self.kind else f"its {self.kind} {self.text}", self.against
        )


class Explainer:
    """Explains the stages of a sweep by what is in a folder of runs."""

    def __init__(self, stages: Mapping[str, Stage], runs: Path) -> None:
        """`stages`, by id, are those of the sweep; other folders are taken to be left by what it was before."""
        self.runs, self.stages = runs, stages
        self.left: dict[str, list[str]] = defaultdict(list)
        """Folders that are none of them, by their slugs."""
        for path in sorted(runs.iterdir()) if runs.is_dir() else ():
            if path.name not in self.stages:
                self.left[path.name.rpartition("-")[0]].append(path.name)
        self._described: dict[str, tuple[Stage, int | None] | None] = {}
        self._changes: dict[tuple[str, str], tuple[_Change, ...]] = {}

    def why(self, identity: str) -> Explained | None:
        """Why this stage of the sweep has to be done; None where it is complete."""
        stage, folder = self.stages[identity], StageFolder(self.runs / identity)
        if folder.complete:
            return None
        if folder.attempts:
            reasons: tuple[Reason, ...] = (Reason(unfinished(attempts(folder))),)
        else:
            reasons = self._differences(identity, stage) or (Reason("new: nothing like it on disk"),)
        return Explained(identity, stage.kind, reasons)

    def since(self, name: str) -> tuple[str, tuple[Reason, ...]] | None:
        """The stage that took the place of a folder that the sweep has no use for, and how it differs from it; None
        where no stage did."""
        found = self._describe(name)
        for identity, stage in self.stages.items() if found else ():
            if found and self._is_like(stage, found[0]):
                return identity, tuple(change.told_of(identity) for change in self._compare(identity, stage, name))
        return None

    def _differences(self, identity: str, stage: Stage) -> tuple[Reason, ...]:
        predecessor = self._predecessor(identity, stage)
        if predecessor is None:
            return ()
        return tuple(change.told_of(identity) for change in self._compare(identity, stage, predecessor))

    def _predecessor(self, identity: str, stage: Stage) -> str | None:
        """Of the folders of the same name and budget: of the same sweep if there is one, and with least difference."""
        ranked = []
        for name in self.left[stage.slug]:
            found = self._describe(name)
            if found is None or not self._is_like(stage, found[0]):
                continue
            old, complete = found[0], StageFolder(self.runs / name).complete
            differing = len(list(_differing(stage.fields.model_dump(mode="json"), old.fields.model_dump(mode="json"))))
            ranked.append((old.sweep != stage.sweep, differing, not complete, name))
        return min(ranked)[-1] if ranked else None

    @staticmethod
    def _is_like(stage: Stage, old: Stage) -> bool:
        """Whether one can have taken the other's place: what they are made from has the same names too."""
        if (stage.kind, stage.slug, stage.compute) != (old.kind, old.slug, old.compute):
            return False
        both = stage.parents.keys() & old.parents.keys()
        return all(_slug(stage.parents[role]) == _slug(old.parents[role]) for role in both)

    def _compare(self, identity: str, stage: Stage, predecessor: str) -> tuple[_Change, ...]:
        """What differs between a stage and its predecessor, at the first stages where something does."""
        if (identity, predecessor) not in self._changes:
            self._changes[identity, predecessor] = tuple(self._found(identity, stage, predecessor))
        return self._changes[identity, predecessor]

    def _found(self, identity: str, stage: Stage, predecessor: str) -> Iterator[_Change]:
        found = self._describe(predecessor)
        if found is None:
            return
        old, recipe = found
        own = [
            _difference(stage.kind, *one)
            for one in _differing(stage.fields.model_dump(mode="json"), old.fields.model_dump(mode="json"))
        ]
        inherited = dict[_Change, None]()
        for role in sorted(stage.parents.keys() | old.parents.keys()):
            parent, before = stage.parents.get(role), old.parents.get(role)
            if parent == before:
                continue
            if parent is None or before is None:
                own.append(f"{'no ' if parent is None else 'a '}{role} to go on from")
            elif parent in self.stages and self._describe(before) is not None:
                inherited.update(dict.fromkeys(self._compare(parent, self.stages[parent], before)))
            else:
                own.append(f"{role} {before} -> {parent}")
        if own:
            text = f"changed: {', '.join(own)}"
            yield _Change(text, stage.kind, identity, predecessor)
            inherited = {change: None for change in inherited if change.text != text}  # a section that both have
        if recipe not in (None, RECIPE_VERSION) or not (own or inherited):
            inherited[_Change(_recipe(recipe), "", "", "")] = None
        yield from inherited

    def _describe(self, name: str) -> tuple[Stage, int | None] | None:
        """What a folder's spec.json describes; None where it cannot be read, which is then nothing to compare with."""
        if name not in self._described:
            try:
                self._described[name] = StageFolder(self.runs / name).described()
            except UserError:
                self._described[name] = None
        return self._described[name]


def causes(explained: Iterable[Explained]) -> list[Cause]:
    """The stages by what they have to be done for, in the order of the first of each."""
    grouped: dict[str, list[Explained]] = {}
    for stage in explained:
        grouped.setdefault("; ".join(reason.text for reason in stage.reasons), []).append(stage)
    found = []
    for text, stages in grouped.items():
        against = dict.fromkeys(reason.against for stage in stages for reason in stage.reasons if reason.against)
        found.append(Cause(text, tuple(stages), tuple(against)))
    return found


def explain(stages: Mapping[str, Stage], runs: Path) -> list[Cause]:
    """Why those of these stages that are not complete have to be done."""
    explainer = Explainer(stages, runs)
    return causes(found for identity in explainer.stages if (found := explainer.why(identity)) is not None)


def state(folder: StageFolder) -> State:
    """How far a stage has come, by its files."""
    if folder.complete:
        return "complete"
    return "unfinished" if folder.attempts else "never tried"


def unfinished(tried: Sequence[Attempt]) -> str:
    """A stage that was begun, in a few words."""
    count = f"{len(tried)} attempt{'s' if len(tried) != 1 else ''}"
    last = tried[-1]
    counted = next((one for one in reversed(tried) if one.done is not None), None)
    words = [f"unfinished: {count}"]
    if counted is not None:
        words.append(f"at {counted.done} of {counted.total}" if counted.total else f"at {counted.done}")
    words.append("the last one has said nothing of its end" if last.end == "silent" else f"the last one {last.end}")
    return ", ".join(words)


def _slug(identity: str) -> str:
    """Of an id, which is a slug and a hash."""
    return identity.rpartition("-")[0]


def _recipe(recipe: int | None) -> str:
    if recipe is None:
        return "its spec.json describes this stage, but its folder has another name: was either edited?"
    return f"recipe version {recipe} -> {RECIPE_VERSION}"


def _difference(kind: str, name: str, before: Any, now: Any) -> str:
    if name == "manifest" and kind in MANIFESTS:
        return MANIFESTS[kind]
    return f"{name} {_short(before)} -> {_short(now)}"


def _differing(now: Any, before: Any, name: str = "") -> Iterator[tuple[str, Any, Any]]:
    """Name, value before and value now of every field that differs."""
    if now == before:
        return
    if isinstance(now, dict) and isinstance(before, dict):
        for key in [*now, *(key for key in before if key not in now)]:
            where = f"{name}.{key}" if name else str(key)
            yield from _differing(now.get(key, _ABSENT), before.get(key, _ABSENT), where)
    elif isinstance(now, list | tuple) and isinstance(before, list | tuple) and len(now) == len(before):
        for number, (new, old) in enumerate(zip(now, before, strict=True)):
            yield from _differing(new, old, f"{name}.{number}")
    else:
        yield name, before, now


class _Absent:
    """A field that one of two specs does not have, because the code did not know it then or does not now."""


_ABSENT = _Absent()


def _short(value: Any) -> str:
    if isinstance(value, _Absent):
        return "(none)"
    brief = f"{value:g}" if isinstance(value, float) else ""
    text = brief if brief and float(brief) == value else json.dumps(value)
    return text if len(text) <= SHOWN else f"{text[: SHOWN - 3]}..."
