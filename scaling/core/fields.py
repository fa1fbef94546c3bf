"""Fields by their dotted names, such as `optim.adamw_lr`, in documents that are not specs yet."""

from collections.abc import Mapping
from typing import Any

from scaling.core.errors import UserError


def with_field(document: Mapping[str, Any], name: str, value: Any, where: str) -> dict[str, Any]:
    """A copy of a nested mapping with one field set; sections that are missing are made. `where` names the origin of
    the name in errors.

    Raises UserError where a part of the name is empty or names a value that has no fields.
    """
    part, dot, rest = name.partition(".")
    if not part or (dot and not rest):
        raise UserError(f"{where}: '{name}' is not a field; give a name such as optim.adamw_lr")
    if not dot:
        return {**document, part: value}
    section = document.get(part) or {}
    if not isinstance(section, Mapping):
        raise UserError(f"{where}: {part} is {section!r}, which has no field {rest}; give all of {part} instead")
    return {**document, part: with_field(section, rest, value, where)}


def merged(base: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """A nested mapping with the values of another in place of its own; only mappings are merged, lists are replaced."""
    result = dict(base)
    for name, value in changes.items():
        old = result.get(name)
        result[name] = merged(old, value) if isinstance(old, Mapping) and isinstance(value, Mapping) else value
    return result
