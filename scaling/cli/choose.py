"""Which stages a user means: by id, by the beginning of one, or by slug and compute, such as `dit-w64d2@4x`."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from scaling.errors import UserError

if TYPE_CHECKING:
    from slurm.states import Status


def chosen(found: "Sequence[Status]", names: Sequence[str]) -> "list[Status]":
    """In the order of the names. Raises UserError where a name fits no stage."""
    picked: list[Status] = []
    for name in names:
        slug, _, compute = name.partition("@")
        fitting = [one for one in found if one.id == name]
        fitting = fitting or [one for one in found if one.slug == slug and (not compute or one.compute == compute)]
        fitting = fitting or [one for one in found if one.id.startswith(name)]
        if not fitting:
            raise UserError(f"{name}: no such stage; 'scaling status OUT --all --json' lists their ids")
        picked += [one for one in fitting if one not in picked]
    return picked
