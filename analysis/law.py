"""The Chinchilla law L(N, D) = E + A / N^alpha + B / D^beta, fitted to a table of runs.

Hoffmann et al. 2022 (arXiv 2203.15556), equation 2 and appendix D.3 (the Huber loss on log residuals); the fit of
Besiroglu et al. 2024 (arXiv 2404.10102) is the reference that the tests reproduce. Not here: intervals
(`analysis.intervals`), the optimal size without a law (`analysis.frontier`), and extrapolation (`analysis.forecast`).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike
from scipy.optimize import OptimizeResult, least_squares, minimize

from analysis.varpro import Array, project
from scaling.errors import UserError

PARAMETERS = ("E", "A", "B", "alpha", "beta")
EXPONENT_RANGE = (0.01, 3.0)
"""Exponents are searched here. Published ones lie between .03 and .8; an optimum at an end is reported as a bound."""
EXPONENT_GRID = np.geomspace(*EXPONENT_RANGE, 48)
STARTS = 3
"""Local minima of the projected surface that are polished; the Huber optimum need not descend from the best one."""
SINGULAR = 3000.0
"""Condition number of the column-scaled Jacobian above which runs do not separate the parameters. Measured: 33 for the
Chinchilla data, 20 to 60 for three budgets of three or four sizes, above 10 000 where N and D grow together."""

HAIR, ZERO = 1e-12, 1e-9
"""In units of the loss: the least that a search may use, and what counts as 0."""


Status = Literal["converged", "bound_hit", "underdetermined"]


@dataclass(frozen=True)
class Fit:
    """A fitted law and everything needed to judge it."""

    E: float
    """Irreducible loss."""
    A: float
    B: float
    alpha: float
    beta: float
    objective: float
    """Sum over the points of the Huber loss of log residuals."""
    delta: float
    """Where the Huber loss turns from squared to absolute, in units of log loss."""
    residuals: tuple[float, ...]
    """log(measured) - log(fitted), one per point."""
    status: Status
    reason: str
    """Why the status is not `converged`; empty where it is."""
    runs: tuple[str, ...]
    """The runs used, in the order of the residuals."""

    @property
    def a(self) -> float:
        """Exponent of the optimal N in C, where C is proportional to N D (Hoffmann et al. 2022, equation 4)."""
        return self.beta / (self.alpha + self.beta)

    @property
    def b(self) -> float:
        """Exponent of the optimal D in C, where C is proportional to N D."""
        return self.alpha / (self.alpha + self.beta)

    @property
    def params(self) -> dict[str, float]:
        return {name: getattr(self, name) for name in PARAMETERS}

    def predict(self, n_params: ArrayLike, num_tokens: ArrayLike) -> Array:
        """The law's loss for any N and D that broadcast."""
        N, D = np.asarray(n_params, float), np.asarray(num_tokens, float)
        return self.E + self.A * N**-self.alpha + self.B * D**-self.beta


def fit_law(
    n_params: ArrayLike,
    num_tokens: ArrayLike,
    loss: ArrayLike,
    *,
    delta: float = 1e-3,
    runs: Sequence[str] | None = None,
    start: Fit | None = None,
) -> Fit:
    """Fits the law to at least six runs.

    delta: 1e-3 is the literature's choice for large language models; 1.0 is in effect least squares on log residuals,
    which suits few points with Gaussian noise.
    start: a fit of nearly the same data; polishing from it replaces the search over the grid (for resampling).

    Raises UserError for fewer than six points, a value that is not positive and finite, or a single N or D.
    """
    N, D, L = (np.asarray(values, float) for values in (n_params, num_tokens, loss))
    check_points(N, D, L)
    names = tuple(runs) if runs is not None else tuple(str(i) for i in range(len(L)))
    assert len(names) == len(L), f"{len(names)} run names for {len(L)} points"
    # Geometric means as units bring the condition number of the problem down by many orders of magnitude.
    N0, D0 = np.exp(np.log(N).mean()), np.exp(np.log(D).mean())
    n, d = np.log(N / N0), np.log(D / D0)
    if start is None:
        starts = _grid_starts(n, d, L)
    else:
        units = [start.E, start.A * N0**-start.alpha, start.B * D0**-start.beta, start.alpha, start.beta]
        starts = [np.array(units)]
    solutions = [_polish(theta, n, d, L, delta) for theta in starts]
    best = min(solutions, key=lambda solution: float(solution.fun))
    theta = best.x
    residuals, jacobian = _residuals(theta, n, d, L), _jacobian(theta, n, d)
    status, reason = _judge(theta, jacobian)
    E, A, B, alpha, beta = theta
    return Fit(
        E=float(E) if E > ZERO else 0.0,
        A=float(A * N0**alpha),
        B=float(B * D0**beta),
        alpha=float(alpha),
        beta=float(beta),
        objective=float(huber(residuals, delta).sum()),
        delta=delta,
        residuals=tuple(residuals.tolist()),
        status=status,
        reason=reason,
        runs=names,
    )


def huber(residuals: Array, delta: float) -> Array:
    """r^2 / 2 up to delta, then delta (|r| - delta / 2)."""
    size = np.abs(residuals)
    return np.where(size <= delta, size**2 / 2, delta * (size - delta / 2))


def check_points(N: Array, D: Array, L: Array) -> None:
    """Raises UserError where no law can be fitted to these points."""
    for name, values in (("n_params", N), ("num_tokens", D), ("loss", L)):
        bad = np.flatnonzero(~(np.isfinite(values) & (values > 0)))
        if len(bad):
            raise UserError(
                f"{name} is {values[bad[0]]} in point {bad[0] + 1}, but must be a positive number; leave that run out"
            )
    needed = len(PARAMETERS) + 1
    if len(L) < needed:
        raise UserError(f"{len(L)} runs are too few for a law of {len(PARAMETERS)} parameters; give at least {needed}")
    for name, values in (("n_params", N), ("num_tokens", D)):
        if len(np.unique(values)) == 1:
            raise UserError(f"all runs have the same {name} ({values[0]:g}); add runs that vary it")


def _grid_starts(n: Array, d: Array, L: Array) -> list[Array]:
    """Normalised parameters at the lowest local minima of the projected relative squared error."""
    size = len(EXPONENT_GRID)
    alpha, beta = (axis.ravel() for axis in np.meshgrid(EXPONENT_GRID, EXPONENT_GRID, indexing="ij"))
    columns = np.stack([np.ones((len(alpha), len(L))), np.exp(-alpha[:, None] * n), np.exp(-beta[:, None] * d)], axis=2)
    surface = np.pad(project(columns, L[None], L).surface.reshape(size, size), 1, constant_values=np.inf)
    middle = surface[1:-1, 1:-1]
    around = [surface[1 + i : 1 + i + size, 1 + j : 1 + j + size] for i in (-1, 0, 1) for j in (-1, 0, 1) if i or j]
    lows = np.flatnonzero((middle <= np.minimum.reduce(around)).ravel())
    lowest = lows[np.argsort(middle.ravel()[lows])][:STARTS]
    coefficients = [project(columns[i : i + 1], L[None], L).coefficients[0] for i in lowest]
    return [np.array([*c, alpha[i], beta[i]]) for c, i in zip(coefficients, lowest, strict=True)]


def _polish(theta: Array, n: Array, d: Array, L: Array, delta: float) -> OptimizeResult:
    """Gauss-Newton steps to the neighbourhood of the optimum, then quasi-Newton ones for the Huber loss's linear part.

    The objective of a good fit is about 1e-5, where default tolerances already call it converged, so it is scaled to 1.
    """
    # A and B stay a hair above 0, so that the prediction has a logarithm wherever a step leads.
    low = [0.0, HAIR, HAIR, EXPONENT_RANGE[0], EXPONENT_RANGE[0]]
    high = [np.inf, np.inf, np.inf, EXPONENT_RANGE[1], EXPONENT_RANGE[1]]
    near = least_squares(
        _residuals,
        np.clip(theta, np.array(low) + HAIR, high),
        lambda theta, n, d, _: -_jacobian(theta, n, d),
        bounds=(low, high),
        loss="huber",
        f_scale=delta,
        x_scale="jac",
        ftol=1e-15,
        xtol=1e-15,
        gtol=1e-15,
        max_nfev=200,
        args=(n, d, L),
    )
    unit = max(near.cost, 1e-300)
    scale = 1 / np.maximum(np.linalg.norm(near.jac, axis=0), 1e-12)

    def value(z: Array) -> tuple[float, Array]:
        residuals = _residuals(z * scale, n, d, L)
        slope = np.clip(residuals, -delta, delta)
        return huber(residuals, delta).sum() / unit, -(slope @ _jacobian(z * scale, n, d)) * scale / unit

    bounds = [(lo / s, hi / s) for lo, hi, s in zip(low, high, scale, strict=True)]
    fine = minimize(
        value,
        near.x / scale,
        jac=True,
        method="L-BFGS-B",
        bounds=bounds,
        options={"ftol": 1e-15, "gtol": 1e-10, "maxiter": 2000, "maxcor": 20},
    )
    if fine.fun <= huber(near.fun, delta).sum() / unit:
        return OptimizeResult(x=fine.x * scale, fun=fine.fun * unit)
    return OptimizeResult(x=near.x, fun=near.cost)


def _terms(theta: Array, n: Array, d: Array) -> tuple[Array, Array]:
    return theta[1] * np.exp(-theta[3] * n), theta[2] * np.exp(-theta[4] * d)


def _residuals(theta: Array, n: Array, d: Array, L: Array) -> Array:
    size, data = _terms(theta, n, d)
    return np.log(L) - np.log(theta[0] + size + data)


def _jacobian(theta: Array, n: Array, d: Array) -> Array:
    """Derivatives of the log prediction by (E, A, B, alpha, beta), shape (points, 5), in normalised units."""
    size, data = _terms(theta, n, d)
    prediction = theta[0] + size + data
    rows = [np.ones_like(n), np.exp(-theta[3] * n), np.exp(-theta[4] * d), -n * size, -d * data]
    return np.stack(rows, axis=1) / prediction[:, None]


def _judge(theta: Array, jacobian: Array) -> tuple[Status, str]:
    for name, value, partner in (("A", theta[1], "alpha"), ("B", theta[2], "beta")):
        if value < ZERO:
            return "underdetermined", f"{name} is 0, so {partner} means nothing"
    scaled = jacobian / np.linalg.norm(jacobian, axis=0)
    condition = np.linalg.cond(scaled)
    if condition > SINGULAR:
        return "underdetermined", f"the runs do not separate the parameters (condition number {condition:.1e})"
    if theta[0] < ZERO:
        return "bound_hit", "E is 0, its lower bound"
    for name, value in (("alpha", theta[3]), ("beta", theta[4])):
        for end in EXPONENT_RANGE:
            if abs(value / end - 1) < 1e-6:
                return "bound_hit", f"{name} is {value:.3g}, an end of the range searched"
    return "converged", ""
