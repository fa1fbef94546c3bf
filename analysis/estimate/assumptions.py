"""The assumptions of an estimate: positive numbers, or ranges of them, each with its unit, meaning and source.

Not here: what follows from them (`analysis.estimate.sora`, `analysis.estimate.from_runs`) and how a range becomes an
interval (`analysis.estimate.worksheet`).
"""

import math
from collections.abc import Mapping
from difflib import get_close_matches
from typing import Any, Self

from pydantic import Field, model_validator

from scaling.core.errors import UserError
from scaling.core.specs import Spec, parse_spec


class Assumption(Spec):
    """A number, or a range in which it may lie."""

    value: float | tuple[float, float]
    """The number, or (low, high)."""
    middle: float | None = None
    """The most probable number in a range; without it, the geometric mean of the ends."""
    unit: str
    """The unit of the number; "1" where there is none."""
    at_most: float = Field(math.inf, allow_inf_nan=True)
    """Largest possible value, such as 1 for a share."""
    meaning: str
    """What the number is, in words."""
    source: str
    """Who states the number, or how it was measured."""

    @model_validator(mode="after")
    def _possible(self) -> Self:
        if self.low <= 0 or self.high > self.at_most:
            maximum = "" if math.isinf(self.at_most) else f" and at most {self.at_most:g}"
            raise ValueError(f"{_written(self.value)} is not possible; give a number above 0{maximum}")
        if self.is_range and not self.low < self.high:
            raise ValueError(f"{_written(self.value)} does not rise; give the lower end first")
        if not self.low <= self.point <= self.high:
            raise ValueError(f"{self.middle:g} is not inside {_written(self.value)}")
        return self

    @property
    def is_range(self) -> bool:
        return isinstance(self.value, tuple)

    @property
    def low(self) -> float:
        return self.value[0] if isinstance(self.value, tuple) else self.value

    @property
    def high(self) -> float:
        return self.value[1] if isinstance(self.value, tuple) else self.value

    @property
    def point(self) -> float:
        """The single number that stands for the assumption."""
        if self.middle is not None:
            return self.middle
        return math.sqrt(self.low) * math.sqrt(self.high) if self.is_range else self.low


def override(assumptions: Mapping[str, Assumption], changes: Mapping[Any, Any], where: str) -> dict[str, Assumption]:
    """The assumptions with some values changed: numbers, [low, high], or what a command line has, "0.4" or "20..250".

    Raises UserError, which begins with `where`, for an unknown name (with the nearest known one) or a value that is no
    positive number, too large for a share, or a range that does not rise.
    """
    changed = dict(assumptions)
    for name, value in changes.items():
        if name not in assumptions:
            close_names = get_close_matches(str(name), assumptions, n=1)
            hint = f"did you mean '{close_names[0]}'?" if close_names else f"known ones: {', '.join(assumptions)}"
            raise UserError(f"{where}: no assumption '{name}'; {hint}")
        fields = assumptions[name].model_dump() | {"value": _numbers(value, f"{where}: {name}"), "middle": None}
        changed[name] = parse_spec(Assumption, fields | {"source": f"given by {where}"}, f"{where}: {name}")
    return changed


def _numbers(value: Any, where: str) -> float | tuple[float, float]:
    """Raises UserError where the value is neither a finite number nor two of them."""
    parts = value.split("..") if isinstance(value, str) else value if isinstance(value, list) else [value]
    try:
        numbers = [float(part) for part in parts if not isinstance(part, bool)]
    except (TypeError, ValueError):
        numbers = []
    if len(numbers) != len(parts) or len(numbers) not in (1, 2) or not all(map(math.isfinite, numbers)):
        raise UserError(f"{where}: {value!r} is neither a number nor a range such as 20..250")
    return numbers[0] if len(numbers) == 1 else (numbers[0], numbers[1])


def _written(value: float | tuple[float, float]) -> str:
    return f"{value[0]:g}..{value[1]:g}" if isinstance(value, tuple) else f"{value:g}"
