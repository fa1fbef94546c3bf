"""Which stages a user names: by id, by the beginning of one, or by slug and compute, such as `dit-w64d2@4x`."""

from collections.abc import Mapping, Sequence
from typing import Protocol

from scaling.core.errors import UserError

MOST_NAMES = 5
"""Stages that a message names, at most."""


class NamedStage(Protocol):
    """What a user may name a stage by, beside its id."""

    @property
    def slug(self) -> str: ...
    @property
    def compute(self) -> str: ...


def select(stages: Mapping[str, NamedStage], names: Sequence[str]) -> list[str]:
    """The ids of the stages that are named; all ids where no name is given. Raises UserError where a name fits no
    stage, or several."""
    return list(dict.fromkeys(_select_by_name(stages, name) for name in names) if names else stages)


def first_names(names: Sequence[str]) -> str:
    """Names as a list in a message, of many the first."""
    more = f" and {len(names) - MOST_NAMES} more" if len(names) > MOST_NAMES else ""
    return ", ".join(names[:MOST_NAMES]) + more


def _select_by_name(stages: Mapping[str, NamedStage], name: str) -> str:
    if name in stages:
        return name
    slug, _, compute = name.partition("@")
    fitting = [
        identity
        for identity, stage in stages.items()
        if (stage.slug == slug and stage.compute == compute if compute else name and identity.startswith(name))
    ]
    if not fitting:
        raise UserError(f"no stage '{name}'; give the beginning of an id, or SLUG@COMPUTE such as dit-w48d2@4x")
    if len(fitting) > 1:
        raise UserError(f"{name}: fits {first_names(fitting)}; give more of the id, or SLUG@COMPUTE")
    return fitting[0]
