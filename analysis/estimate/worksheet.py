"""Arithmetic on assumptions, step by step, with an interval for every result.

Every scenario is one value of every assumption. The first has the point of each; then come all corners of the box that
the ranges span; then random draws from it. All steps are computed in all scenarios at once, so an assumption that
cancels out of a result does not widen it, which the textbook's interval arithmetic would get wrong.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import product

import numpy as np

from analysis.estimate.assumptions import Assumption
from analysis.estimate.quantity import Quantity
from analysis.laws.varpro import Array
from scaling.core.errors import UserError

LEVEL = 0.90
"""Share of the draws in a `likely` interval."""
DRAWS = 20_000
SEED = 0
MOST_RANGES = 16
"""2^16 corners take 10 MB for every 20 steps."""


@dataclass(frozen=True)
class Result:
    """One step: what it is and what it comes to."""

    name: str
    section: str
    unit: str
    formula: str
    value: float
    """With every assumption at its point."""
    low: float
    """The least that the ranges allow, all assumptions conspiring. Exact where the result only rises or only falls in
    each assumption, as every one of `analysis.estimate.sora` and `analysis.serving` does."""
    high: float
    likely: tuple[float, float]
    """Between these lie LEVEL of the draws, each range drawn log-uniformly and on its own."""


class Worksheet:
    """Assumptions and earlier results by name; `step` adds one. Raises UserError for more than MOST_RANGES ranges."""

    def __init__(self, assumptions: Mapping[str, Assumption]) -> None:
        self._corners, rows = _scenarios(assumptions)
        self._quantities = {name: Quantity(values, name) for name, values in rows.items()}
        self._results: list[Result] = []

    def __getitem__(self, name: str) -> Quantity:
        return self._quantities[name]

    def step(self, section: str, name: str, unit: str, quantity: Quantity) -> Quantity:
        """Notes a result, and gives it back under its name. Raises UserError where it is too large or too small."""
        rows = quantity.rows
        if not (rows.min() > 0 and rows.max() < np.inf):
            raise UserError(f"{name} = {quantity.formula} leaves the range of numbers; give assumptions less extreme")
        low, high = np.quantile(rows[self._corners :], [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
        self._results.append(
            Result(
                name=name,
                section=section,
                unit=unit,
                formula=quantity.formula,
                value=float(rows[0]),
                low=float(rows.min()),
                high=float(rows.max()),
                likely=(float(low), float(high)),
            )
        )
        self._quantities[name] = Quantity(rows, name)
        return self._quantities[name]

    @property
    def results(self) -> dict[str, Result]:
        """In the order of their steps."""
        return {result.name: result for result in self._results}


def _scenarios(assumptions: Mapping[str, Assumption]) -> tuple[int, dict[str, Array]]:
    """Where the draws begin, and the values of each assumption, (scenarios,)."""
    ranges = {name: one for name, one in assumptions.items() if one.is_range}
    if len(ranges) > MOST_RANGES:
        raise UserError(f"{len(ranges)} assumptions are ranges; give at most {MOST_RANGES}, the others as numbers")
    if not ranges:
        return 0, {name: np.array([one.point]) for name, one in assumptions.items()}
    corners = np.array(list(product(*((one.low, one.high) for one in ranges.values()))))
    logs = np.log([[one.low, one.high] for one in ranges.values()])
    draws = np.exp(np.random.default_rng(SEED).uniform(logs[:, 0], logs[:, 1], (DRAWS, len(ranges))))
    columns = dict(zip(ranges, np.vstack([[one.point for one in ranges.values()], corners, draws]).T, strict=True))
    count = 1 + len(corners) + DRAWS
    fixed = {name: np.full(count, one.point) for name, one in assumptions.items()}
    return 1 + len(corners), fixed | columns
