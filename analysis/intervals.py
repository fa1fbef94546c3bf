"""Bootstrap intervals of a fitted law's parameters. Resampling is blind to the error of the law's form."""

from collections.abc import Iterator

import numpy as np
from numpy.typing import ArrayLike

from analysis.law import PARAMETERS, Fit, fit_law
from analysis.varpro import Array

ENOUGH = 30
"""Fewer runs than this keep their design: resampling them would often lose whole budgets or sizes."""
LEVEL = 0.95


def law_intervals(
    fit: Fit, n_params: ArrayLike, num_tokens: ArrayLike, loss: ArrayLike, *, draws: int, seed: int
) -> dict[str, tuple[float, float]]:
    """Percentile intervals at LEVEL for E, A, B, alpha, beta, a and b, from the data that `fit` was fitted to.

    From ENOUGH runs on, whole runs are resampled (never their checkpoints one by one, which share their noise); with
    fewer, a wild bootstrap flips the signs of the residuals and keeps every N and D.
    """
    N, D, L = (np.asarray(values, float) for values in (n_params, num_tokens, loss))
    rng = np.random.default_rng(seed)
    names = np.array(fit.runs)
    plenty = len(set(fit.runs)) >= ENOUGH
    samples = _resampled(N, D, L, names, rng) if plenty else _wild(N, D, fit, rng)
    fits = [fit_law(*next(samples), delta=fit.delta, start=fit) for _ in range(draws)]
    tails = ((1 - LEVEL) / 2, (1 + LEVEL) / 2)
    found: dict[str, tuple[float, float]] = {}
    for name in (*PARAMETERS, "a", "b"):
        low, high = np.quantile([getattr(draw, name) for draw in fits], tails)
        found[name] = (float(low), float(high))
    return found


def _resampled(
    N: Array, D: Array, L: Array, names: np.ndarray, rng: np.random.Generator
) -> Iterator[tuple[Array, Array, Array]]:
    """The points of runs drawn with replacement."""
    rows = [np.flatnonzero(names == name) for name in dict.fromkeys(names)]
    while True:
        drawn = np.concatenate([rows[i] for i in rng.integers(0, len(rows), len(rows))])
        # A draw with a single size or length fits no law and says nothing; only very lopsided designs produce one.
        if len(np.unique(N[drawn])) > 1 and len(np.unique(D[drawn])) > 1:
            yield N[drawn], D[drawn], L[drawn]


def _wild(N: Array, D: Array, fit: Fit, rng: np.random.Generator) -> Iterator[tuple[Array, Array, Array]]:
    """The fitted losses with every residual's sign drawn anew, one sign per run (Wu 1986).

    Residuals are widened by sqrt(n / (n - 5)), because five parameters have already been fitted to them.
    """
    runs, run_of = np.unique(np.array(fit.runs), return_inverse=True)
    points = len(fit.residuals)
    residuals = np.array(fit.residuals) * np.sqrt(points / (points - len(PARAMETERS)))
    fitted = fit.predict(N, D)
    while True:
        signs = rng.choice([-1.0, 1.0], len(runs))
        yield N, D, fitted * np.exp(residuals * signs[run_of])
