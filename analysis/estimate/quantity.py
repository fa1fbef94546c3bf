"""A number that remembers how it was made, so that the formula printed is the formula computed."""

from dataclasses import dataclass
from typing import Union

import numpy as np

from analysis.tables.arrays import Array

Operand = Union["Quantity", float]
SUM, PRODUCT, NAME = range(3)
"""How tightly the parts of a formula are bound: a sum least, a name most."""


@dataclass(frozen=True)
class Quantity:
    """One positive number in many scenarios at once, with its formula in names of other quantities."""

    rows: Array
    """(scenarios,), or () for a constant."""
    formula: str
    binding: int = NAME

    def __add__(self, other: Operand) -> "Quantity":
        other = _quantity(other)
        return Quantity(_without_warnings(np.add, self, other), f"{self.formula} + {other.formula}", SUM)

    def __mul__(self, other: Operand) -> "Quantity":
        other = _quantity(other)
        formula = f"{self._inside(PRODUCT)} × {other._inside(PRODUCT)}"
        return Quantity(_without_warnings(np.multiply, self, other), formula, PRODUCT)

    def __truediv__(self, other: Operand) -> "Quantity":
        other = _quantity(other)
        formula = f"{self._inside(PRODUCT)} / {other._inside(NAME)}"
        return Quantity(_without_warnings(np.divide, self, other), formula, PRODUCT)

    def __rmul__(self, other: float) -> "Quantity":
        return _quantity(other) * self

    def _inside(self, binding: int) -> str:
        """The formula as a part of another, in brackets where it binds less tightly than `binding`."""
        return self.formula if self.binding >= binding else f"({self.formula})"


def _quantity(value: Operand) -> Quantity:
    return value if isinstance(value, Quantity) else Quantity(np.asarray(value, float), f"{value:g}")


def _without_warnings(operation: np.ufunc, a: Quantity, b: Quantity) -> Array:
    """Overflow gives inf, which the worksheet refuses."""
    with np.errstate(all="ignore"):
        return np.asarray(operation(a.rows, b.rows))
