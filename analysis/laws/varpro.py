"""Least squares with non-negative coefficients at every point of a grid: the step that fixes the linear parameters.

Every law here is linear once its exponents are fixed, so a fit is a search over one or two exponents with the best
coefficients solved exactly at each grid point: variable projection (Golub and Pereyra 2003, "Separable nonlinear least
squares: the variable projection method and its applications"). This file knows matrices only; the laws are in
`analysis.laws.forms`.

With few terms the constrained optimum is found by trying each subset of them: it is the best unconstrained solution
among the subsets whose solution happens to be non-negative (Lawson and Hanson 1974, chapter 23). How a subset is solved
is the caller's choice: exactly for the forecasts (`project`), fast for the starts of a fit (`analysis.laws.starts`).
"""

from collections.abc import Callable
from itertools import combinations
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from analysis.tables.arrays import Array

SubsetSolver = Callable[[list[int]], tuple[Array, Array]]
"""Solves least squares on a subset of terms. Gives the coefficients (grid, subset, copies), which may have any sign,
and the sum of squared residuals (grid, copies), which is infinite where the subset cannot be solved."""


class Projection(NamedTuple):
    """The best fit of every copy of the losses."""

    chosen: NDArray[np.intp]
    """The best grid point of each copy: shape (copies,)."""
    coefficients: Array
    """Shape (copies, terms); zero where the constraint binds."""
    surface: Array
    """Residual sum of squares of the weighted problem: shape (grid, copies)."""


def nonnegative_least_squares(shape: tuple[int, int, int], solve: SubsetSolver) -> tuple[Array, Array]:
    """The least sum of squares (grid, copies) and the coefficients (grid, copies, terms) that are not below 0.

    shape: numbers of grid points, copies and terms.
    """
    grid, copies, terms = shape
    best = np.full((grid, copies), np.inf)
    solution = np.zeros((grid, copies, terms))
    for size in range(1, terms + 1):
        for subset in map(list, combinations(range(terms), size)):
            coefficients, squares = solve(subset)
            improved = (coefficients >= 0).all(axis=1) & (squares < best)
            best[improved] = squares[improved]
            rows, columns = np.nonzero(improved)
            solution[rows, columns] = 0.0
            solution[rows[:, None], columns[:, None], subset] = coefficients.transpose(0, 2, 1)[improved]
    return best, solution


def project(columns: Array, losses: Array, scale: Array) -> Projection:
    """Least squares of (losses - columns @ coefficients) / scale with coefficients >= 0, at each grid point.

    columns: (grid, points, terms), the basis functions at each grid point of exponents.
    losses: (copies, points). scale: (points,), the size of an error; the losses themselves make errors relative.
    """
    grid, _, terms = columns.shape
    copies = len(losses)
    weighted, target = columns / scale[:, None], (losses / scale).T  # (grid, points, terms), (points, copies)
    total = np.einsum("nr,nr->r", target, target)

    def solve_by_qr(subset: list[int]) -> tuple[Array, Array]:
        q, r = np.linalg.qr(weighted[:, :, subset])
        # Two terms may coincide on the grid's edge; such a grid point is left to the smaller subsets.
        diagonal = np.abs(np.diagonal(r, axis1=1, axis2=2))
        regular = diagonal.min(axis=1) > 1e-12 * diagonal.max(axis=1)
        r[~regular] = np.eye(len(subset))
        projected = q.transpose(0, 2, 1) @ target  # (grid, subset, copies)
        squares = np.maximum(total - np.einsum("gkr,gkr->gr", projected, projected), 0.0)
        return np.linalg.solve(r, projected), np.where(regular[:, None], squares, np.inf)

    surface, solution = nonnegative_least_squares((grid, copies, terms), solve_by_qr)
    chosen = surface.argmin(axis=0)
    return Projection(chosen, solution[chosen, np.arange(copies)], surface)
