"""Arithmetic on assumptions, step by step, with an interval for every result.

A scenario gives every assumption one value. The first has the point of each assumption; then come all corners of the
box that the ranges span; then random draws from the box. All steps are computed in all scenarios at once, so an
assumption that cancels out of a result does not widen it, as it would in textbook interval arithmetic.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import product

import numpy as np

from analysis.estimate.assumptions import Assumption
from analysis.estimate.quantity import Quantity
from analysis.tables.arrays import Array
from scaling.core.errors import UserError

LEVEL = 0.90
"""Share of the draws in a `likely` interval."""
DRAWS = 20_000
SEED = 0
MOST_RANGES = 16
"""2^16 corners take 10 MB for every 20 steps."""


@dataclass(frozen=True)
class EstimateStep:
    """One step of the arithmetic and its result."""

    name: str
    section: str
    unit: str
    formula: str
    value: float
    """The result with every assumption at its point."""
    low: float
    """The least that the ranges allow. Exact where the result only rises or only falls in each assumption, as all
    results of `analysis.estimate.sora` and `analysis.estimate.from_runs` do."""
    high: float
    """The most that the ranges allow."""
    likely: tuple[float, float]
    """The interval that holds LEVEL of the draws, each range drawn log-uniformly and on its own."""


class Worksheet:
    """Assumptions and earlier results by name; `step` adds one. Raises UserError for more than MOST_RANGES ranges."""

    def __init__(self, assumptions: Mapping[str, Assumption]) -> None:
        self._corners, rows = _scenarios(assumptions)
        self._quantities = {name: Quantity(values, name) for name, values in rows.items()}
        self._steps: list[EstimateStep] = []

    def __getitem__(self, name: str) -> Quantity:
        return self._quantities[name]

    def step(self, section: str, name: str, unit: str, quantity: Quantity) -> Quantity:
        """Adds a step, and returns its quantity under its name. Raises UserError where it is too large or too small."""
        rows = quantity.rows
        if not (rows.min() > 0 and rows.max() < np.inf):
            raise UserError(f"{name} = {quantity.formula} leaves the range of numbers; give assumptions less extreme")
        low, high = np.quantile(rows[self._corners :], [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
        self._steps.append(
            EstimateStep(
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
    def results(self) -> dict[str, EstimateStep]:
        """The steps by name, in their order."""
        return {step.name: step for step in self._steps}


def _scenarios(assumptions: Mapping[str, Assumption]) -> tuple[int, dict[str, Array]]:
    """Where the draws begin, and the values of each assumption, (scenarios,)."""
    ranges = {name: assumption for name, assumption in assumptions.items() if assumption.is_range}
    if len(ranges) > MOST_RANGES:
        raise UserError(f"{len(ranges)} assumptions are ranges; give at most {MOST_RANGES}, the others as numbers")
    if not ranges:
        return 0, {name: np.array([assumption.point]) for name, assumption in assumptions.items()}
    ends = [(assumption.low, assumption.high) for assumption in ranges.values()]
    corners = np.array(list(product(*ends)))
    logs = np.log(ends)
    draws = np.exp(np.random.default_rng(SEED).uniform(logs[:, 0], logs[:, 1], (DRAWS, len(ranges))))
    points = [assumption.point for assumption in ranges.values()]
    columns = dict(zip(ranges, np.vstack([points, corners, draws]).T, strict=True))
    count = 1 + len(corners) + DRAWS
    fixed = {name: np.full(count, assumption.point) for name, assumption in assumptions.items()}
    return 1 + len(corners), fixed | columns
