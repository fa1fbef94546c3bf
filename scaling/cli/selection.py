"""Which stages a user means: by id, by the beginning of one, or by slug and compute, such as `dit-w64d2@4x`."""

from collections.abc import Mapping, Sequence
from typing import Protocol

from scaling.core.errors import UserError

NAMED = 5
"""Stages that a message names, at most."""


class Named(Protocol):
    """What a user may know a stage by."""

    @property
    def slug(self) -> str: ...
    @property
    def compute(self) -> str: ...


def chosen(stages: Mapping[str, Named], names: Sequence[str]) -> list[str]:
    """The ids that names mean, of stages by id; all of them without a name. Raises UserError where a name is no
    stage's, or several stages'."""
    return list(dict.fromkeys(_resolved(stages, name) for name in names) if names else stages)


def _resolved(stages: Mapping[str, Named], name: str) -> str:
    if name in stages:
        return name
    slug, _, compute = name.partition("@")
    found = [
        identity
        for identity, stage in stages.items()
        if (stage.slug == slug and stage.compute == compute if compute else name and identity.startswith(name))
    ]
    if len(found) == 1:
        return found[0]
    if not found:
        raise UserError(f"no stage '{name}'; give the beginning of an id, or SLUG@COMPUTE such as dit-w48d2@4x")
    more = f" and {len(found) - NAMED} more" if len(found) > NAMED else ""
    raise UserError(f"{name}: is {', '.join(found[:NAMED])}{more}; give more of the id, or SLUG@COMPUTE")
