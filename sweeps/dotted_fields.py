"""Fields of nested mappings by dotted names, such as `optim.muon_lr`. Knows nothing of specs."""

from collections.abc import Mapping
from typing import Any


def set_field(document: Mapping[Any, Any], field: str, value: Any) -> dict[Any, Any]:
    """A copy of a nested mapping in which one field has another value. Sections that are missing, or None, are made.

    Raises ValueError where a part of the name is empty, or where a section of the name is a value.
    """
    name, _, rest = field.partition(".")
    if not name or field.endswith("."):
        raise ValueError("a part of the name is empty")
    key = next((known for known in document if str(known) == name), name)  # YAML reads some keys as numbers
    if not rest:
        return {**document, key: value}
    section = {} if document.get(key) is None else document[key]
    if not isinstance(section, Mapping):
        raise ValueError(f"'{name}' is {section!r}, which has no fields")
    return {**document, key: set_field(section, rest, value)}


def merged(base: Mapping[Any, Any], changes: Mapping[Any, Any]) -> dict[Any, Any]:
    """A nested mapping with the values of another in place of its own. Mappings are merged, lists are replaced."""
    result = dict(base)
    for name, value in changes.items():
        old = result.get(name)
        result[name] = merged(old, value) if isinstance(old, Mapping) and isinstance(value, Mapping) else value
    return result
