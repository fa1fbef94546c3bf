"""Names by content: the same spec always gets the same id, and a changed spec never an old one."""

import hashlib
import json
import math
from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel

RECIPE_VERSION = 3
"""Raised when the code changes what a spec produces, so that no old result passes for a new one."""


def canonical_json(value: Any) -> str:
    """One text for one value: sorted keys, no spaces, floats by repr; a whole float reads as that float, not as an int.

    Raises TypeError for a value that has no stable text (functions, sets) and ValueError for NaN or infinity.
    """
    return json.dumps(_plain(value), sort_keys=True, separators=(",", ":"), allow_nan=False)


def digest(value: Any) -> str:
    """16 hex digits of the sha256 of the value's canonical JSON."""
    return hashlib.sha256(canonical_json(value).encode()).hexdigest()[:16]


def stage_id(slug: str, fields: Any, parents: Mapping[str, str], recipe: int = RECIPE_VERSION) -> str:
    """`slug` and 16 hex digits over the semantic fields, the parents' ids and the recipe version."""
    return f"{slug}-{digest({'fields': fields, 'parents': dict(parents), 'recipe': recipe})}"


def _plain(value: Any) -> Any:
    # What specs are made of, by its type: a plan of a thousand runs asks half a million times.
    kind = type(value)
    if value is None or kind is str or kind is int or kind is bool:
        return value
    if kind is dict:
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, BaseModel):
        return _plain(value.model_dump())
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if value is None or isinstance(value, bool | int | str):
        return value
    if isinstance(value, float):
        if not math.isfinite(value):
            raise ValueError(f"{value} has no place in a spec")
        return value
    raise TypeError(f"{type(value).__name__} has no canonical text: {value!r}")
