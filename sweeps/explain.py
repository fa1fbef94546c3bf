"""Explains why a stage has to be run: it was begun and is not complete, it is new, or its spec has changed. Then it
names the field that changed, in the stage itself or in a parent. Reads a folder of runs. No torch.

An id shows that something differs but not what. So a stage is compared with its predecessor: a folder of the same slug
and budget that is no stage of the sweep as it is now.
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
from scaling.core.stage import Stage
from scaling.core.stage_folder import StageFolder

Completion = Literal["complete", "unfinished", "never tried"]
LONGEST_VALUE = 60
"""Most characters of a value that are shown."""
MANIFESTS = {"data": "its videos or captions", "latents": "its text encoder's files"}
"""What the manifest of a kind of stage stands for, because two hashes would not inform a reader."""


@dataclass(frozen=True)
class Reason:
    """One reason why a stage has to be run."""

    text: str
    against: str = ""
    """Name of the folder that the stage was compared with."""


@dataclass(frozen=True)
class Explanation:
    """All reasons why one stage has to be run."""

    id: str
    kind: str
    reasons: tuple[Reason, ...]


@dataclass(frozen=True)
class Cause:
    """Stages that have to be run for the same reason."""

    reason: str
    stages: tuple[Explanation, ...]
    against: tuple[str, ...]
    """Names of the folders that were compared."""

    def to_document(self) -> dict[str, Any]:
        stages = [stage.id for stage in self.stages]
        return {"reason": self.reason, "stages": stages, "against": list(self.against), "text": str(self)}

    def __str__(self) -> str:
        kinds = [stage.kind for stage in self.stages]
        counts = [f"{kinds.count(kind)} {kind}" for kind in dict.fromkeys(kinds)]
        subject = f"{len(kinds)} stages ({', '.join(counts)})" if len(counts) > 1 else f"{counts[0]} stages"
        subject = self.stages[0].id if len(kinds) == 1 else subject
        others = f" and {len(self.against) - 1} others" if len(self.against) > 1 else ""
        against = f" (against {self.against[0]}{others})" if self.against else ""
        return f"{subject}: {self.reason}{against}"


@dataclass(frozen=True)
class _Change:
    """A difference between a stage and its predecessor, at the stage where it is."""

    text: str
    kind: str
    """Kind of that stage; empty for the recipe version, which concerns every stage."""
    stage: str
    """Id of that stage."""
    against: str

    def as_reason(self, stage: str) -> Reason:
        """The change as a reason of the stage where it is, or of one that descends from it."""
        return Reason(
            self.text if self.stage == stage or not self.kind else f"its {self.kind} {self.text}", self.against
        )


class Explainer:
    """Explains the stages of a sweep by comparing them with a folder of runs."""

    def __init__(self, stages: Mapping[str, Stage], runs: Path) -> None:
        """`stages` are those of the sweep by id; other folders count as predecessors."""
        self.runs, self.stages = runs, stages
        self.predecessors: dict[str, list[str]] = defaultdict(list)
        """Names of the folders that are no stage of the sweep, by slug."""
        for path in sorted(runs.iterdir()) if runs.is_dir() else ():
            if path.name not in self.stages:
                self.predecessors[path.name.rpartition("-")[0]].append(path.name)
        self._described: dict[str, tuple[Stage, int | None] | None] = {}
        self._changes: dict[tuple[str, str], tuple[_Change, ...]] = {}

    def explain(self, identity: str) -> Explanation | None:
        """Why this stage of the sweep has to be run; None where it is complete."""
        stage, folder = self.stages[identity], StageFolder(self.runs / identity)
        if folder.complete:
            return None
        if folder.attempts:
            reasons: tuple[Reason, ...] = (Reason(unfinished(attempts(folder))),)
        else:
            reasons = self._differences(identity, stage) or (Reason("new: nothing like it on disk"),)
        return Explanation(identity, stage.kind, reasons)

    def successor(self, name: str) -> tuple[str, tuple[Reason, ...]] | None:
        """The stage of the sweep that replaces a folder, and how it differs from it; None where there is none."""
        described = self._describe(name)
        for identity, stage in self.stages.items() if described else ():
            if described and self._can_replace(stage, described[0]):
                return identity, tuple(change.as_reason(identity) for change in self._compare(identity, stage, name))
        return None

    def _differences(self, identity: str, stage: Stage) -> tuple[Reason, ...]:
        predecessor = self._predecessor(identity, stage)
        if predecessor is None:
            return ()
        return tuple(change.as_reason(identity) for change in self._compare(identity, stage, predecessor))

    def _predecessor(self, identity: str, stage: Stage) -> str | None:
        """Name of the predecessor of a stage: preferably of the same sweep, and with the fewest differing fields."""
        ranked = []
        for name in self.predecessors[stage.slug]:
            described = self._describe(name)
            if described is None or not self._can_replace(stage, described[0]):
                continue
            old, complete = described[0], StageFolder(self.runs / name).complete
            differing = len(list(_differing(stage.fields.model_dump(mode="json"), old.fields.model_dump(mode="json"))))
            ranked.append((old.sweep != stage.sweep, differing, not complete, name))
        return min(ranked)[-1] if ranked else None

    @staticmethod
    def _can_replace(stage: Stage, old: Stage) -> bool:
        """Whether a stage can have replaced another: they have the same kind, slug and budget, and so have their
        parents."""
        if (stage.kind, stage.slug, stage.compute) != (old.kind, old.slug, old.compute):
            return False
        roles = stage.parents.keys() & old.parents.keys()
        return all(_slug(stage.parents[role]) == _slug(old.parents[role]) for role in roles)

    def _compare(self, identity: str, stage: Stage, predecessor: str) -> tuple[_Change, ...]:
        """The differences between a stage and its predecessor, each at the first stage where it appears."""
        if (identity, predecessor) not in self._changes:
            self._changes[identity, predecessor] = tuple(self._differing_stages(identity, stage, predecessor))
        return self._changes[identity, predecessor]

    def _differing_stages(self, identity: str, stage: Stage, predecessor: str) -> Iterator[_Change]:
        described = self._describe(predecessor)
        if described is None:
            return
        old, recipe = described
        own_changes = [
            _difference(stage.kind, *difference)
            for difference in _differing(stage.fields.model_dump(mode="json"), old.fields.model_dump(mode="json"))
        ]
        inherited = dict[_Change, None]()
        for role in sorted(stage.parents.keys() | old.parents.keys()):
            parent, before = stage.parents.get(role), old.parents.get(role)
            if parent == before:
                continue
            if parent is None or before is None:
                own_changes.append(f"{'no ' if parent is None else 'a '}{role} to go on from")
            elif parent in self.stages and self._describe(before) is not None:
                inherited.update(dict.fromkeys(self._compare(parent, self.stages[parent], before)))
            else:
                own_changes.append(f"{role} {before} -> {parent}")
        if own_changes:
            text = f"changed: {', '.join(own_changes)}"
            yield _Change(text, stage.kind, identity, predecessor)
            inherited = {change: None for change in inherited if change.text != text}  # a section that both stages have
        if recipe not in (None, RECIPE_VERSION) or not (own_changes or inherited):
            inherited[_Change(_recipe(recipe), "", "", "")] = None
        yield from inherited

    def _describe(self, name: str) -> tuple[Stage, int | None] | None:
        """The stage and recipe version of a folder's spec.json; None where it cannot be read, so that nothing is
        compared with it."""
        if name not in self._described:
            try:
                self._described[name] = StageFolder(self.runs / name).described()
            except UserError:
                self._described[name] = None
        return self._described[name]


def group_by_cause(explained: Iterable[Explanation]) -> list[Cause]:
    """The stages grouped by reason, in the order in which each reason comes first."""
    grouped: dict[str, list[Explanation]] = {}
    for stage in explained:
        grouped.setdefault("; ".join(reason.text for reason in stage.reasons), []).append(stage)
    causes = []
    for text, stages in grouped.items():
        against = dict.fromkeys(reason.against for stage in stages for reason in stage.reasons if reason.against)
        causes.append(Cause(text, tuple(stages), tuple(against)))
    return causes


def explain(stages: Mapping[str, Stage], runs: Path) -> list[Cause]:
    """Why those of the stages that are not complete have to be run."""
    explainer = Explainer(stages, runs)
    explanations = (explainer.explain(identity) for identity in explainer.stages)
    return group_by_cause(explanation for explanation in explanations if explanation is not None)


def state(folder: StageFolder) -> Completion:
    """How far a stage has come, read from its files."""
    if folder.complete:
        return "complete"
    return "unfinished" if folder.attempts else "never tried"


def unfinished(past_attempts: Sequence[Attempt]) -> str:
    """A short description of a stage that was begun and is not complete."""
    count = f"{len(past_attempts)} attempt{'s' if len(past_attempts) != 1 else ''}"
    last = past_attempts[-1]
    counted = next((attempt for attempt in reversed(past_attempts) if attempt.done is not None), None)
    parts = [f"unfinished: {count}"]
    if counted is not None:
        parts.append(f"at {counted.done} of {counted.total}" if counted.total else f"at {counted.done}")
    parts.append("the last one left no word about its end" if last.end == "silent" else f"the last one {last.end}")
    return ", ".join(parts)


def _slug(identity: str) -> str:
    """The slug of an id, which is a slug and a hash."""
    return identity.rpartition("-")[0]


def _recipe(recipe: int | None) -> str:
    if recipe is None:
        return "its spec.json describes this stage, but its folder has another name: was either edited?"
    return f"recipe version {recipe} -> {RECIPE_VERSION}"


def _difference(kind: str, name: str, before: Any, after: Any) -> str:
    if name == "manifest" and kind in MANIFESTS:
        return MANIFESTS[kind]
    return f"{name} {_short(before)} -> {_short(after)}"


def _differing(after: Any, before: Any, name: str = "") -> Iterator[tuple[str, Any, Any]]:
    """Name, value before and value now of every field that differs."""
    if after == before:
        return
    if isinstance(after, dict) and isinstance(before, dict):
        for key in [*after, *(key for key in before if key not in after)]:
            where = f"{name}.{key}" if name else str(key)
            yield from _differing(after.get(key, _ABSENT), before.get(key, _ABSENT), where)
    elif isinstance(after, list | tuple) and isinstance(before, list | tuple) and len(after) == len(before):
        for number, (new, old) in enumerate(zip(after, before, strict=True)):
            yield from _differing(new, old, f"{name}.{number}")
    else:
        yield name, before, after


class _Absent:
    """Marks a field that one of two specs does not have, because another version of the code wrote it."""


_ABSENT = _Absent()


def _short(value: Any) -> str:
    if isinstance(value, _Absent):
        return "(none)"
    brief = f"{value:g}" if isinstance(value, float) else ""
    text = brief if brief and float(brief) == value else json.dumps(value)
    return text if len(text) <= LONGEST_VALUE else f"{text[: LONGEST_VALUE - 3]}..."
