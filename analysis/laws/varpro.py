"""Variable projection with non-negative coefficients: every law here is linear once its exponents are fixed.

So a fit is a search over one or two exponents, with the best coefficients solved exactly at each grid point, for many
noisy copies of the losses at once. This file knows matrices only; the laws are in `law` and `forms`.

Golub and Pereyra 2003, "Separable nonlinear least squares: the variable projection method and its applications".
"""

from itertools import combinations
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


class Projection(NamedTuple):
    """The best fit of every copy of the losses."""

    chosen: NDArray[np.intp]
    """The best grid point of each copy: shape (copies,)."""
    coefficients: Array
    """Shape (copies, terms); zero where the constraint binds."""
    surface: Array
    """Residual sum of squares of the weighted problem: shape (grid, copies)."""


def project(columns: Array, losses: Array, scale: Array) -> Projection:
    """Least squares of (losses - columns @ coefficients) / scale with coefficients >= 0, at each grid point.

    columns: (grid, points, terms), the basis functions at each grid point of exponents.
    losses: (copies, points). scale: (points,), the size of an error; the losses themselves make errors relative.

    With few terms the constrained optimum is found by trying each subset of them: it is the best unconstrained solution
    among the subsets whose solution happens to be non-negative (Lawson and Hanson 1974, chapter 23).
    """
    grid, _, terms = columns.shape
    copies = len(losses)
    weighted, target = columns / scale[:, None], (losses / scale).T  # (grid, points, terms), (points, copies)
    total = np.einsum("nr,nr->r", target, target)
    best = np.full((grid, copies), np.inf)
    solution = np.zeros((grid, copies, terms))
    for size in range(1, terms + 1):
        for subset in map(list, combinations(range(terms), size)):
            part = weighted[:, :, subset]
            q, r = np.linalg.qr(part)
            # Two terms may coincide on the grid's edge; such a grid point is left to the smaller subsets.
            diagonal = np.abs(np.diagonal(r, axis1=1, axis2=2))
            regular = diagonal.min(axis=1) > 1e-12 * diagonal.max(axis=1)
            r[~regular] = np.eye(size)
            projected = q.transpose(0, 2, 1) @ target  # (grid, subset, copies)
            found = np.linalg.solve(r, projected)
            rss = np.maximum(total - np.einsum("gkr,gkr->gr", projected, projected), 0.0)
            better = regular[:, None] & (found >= 0).all(axis=1) & (rss < best)
            best[better] = rss[better]
            rows, columns_of = np.nonzero(better)
            solution[rows, columns_of] = 0.0
            solution[rows[:, None], columns_of[:, None], subset] = found.transpose(0, 2, 1)[better]
    chosen = best.argmin(axis=0)
    return Projection(chosen, solution[chosen, np.arange(copies)], best)
