"""What a budget buys and what a target costs, by a law of N and D.

Training FLOPs per token are a power of N, k N^s, fitted to the runs: attention and embeddings make it other than 6 N.
Of a law with repeated data this is the answer for fresh data.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from analysis.laws.bootstrap import Draws, interval
from analysis.laws.fit import Fit
from analysis.laws.forms import C_AXIS, D_AXIS, N_AXIS, U_AXIS, Form
from analysis.laws.isoflop import PowerLaw, fit_power
from analysis.laws.varpro import Array
from scaling.core.errors import UserError

LEVEL = 0.90
SEARCHED = 1e12
"""A target is looked for up to this many times the largest compute of the runs."""


@dataclass(frozen=True)
class Estimate:
    """A number with its 90 % interval; an end that is not known is None."""

    value: float
    low: float | None
    high: float | None


@dataclass(frozen=True)
class Purchase:
    """The best run at a compute."""

    train_flops: float
    n_params: Estimate
    num_tokens: float
    """At `n_params.value`."""
    metric: Estimate
    """The interval is of a new run of that size."""
    reach: float
    """The compute over the largest compute of the runs."""


@dataclass(frozen=True)
class Cost:
    """The least compute at which the law reaches a target."""

    target: float
    train_flops: Estimate
    """The upper end is None where more than 5 % of the draws never reach the target."""
    n_params: float
    num_tokens: float
    never: float
    """Share of the draws whose floor is above the target."""
    reach: float


def flops_per_token(fit: Fit) -> PowerLaw:
    """k N^s of the runs. Raises UserError where the law has no N and D to share compute between."""
    if not fit.form.splits_compute:
        raise UserError(f"the law {fit.form.name} has no N and D to share compute between; choose chinchilla")
    axes = fit.points.axes
    return fit_power(axes[N_AXIS], axes[C_AXIS] / axes[D_AXIS])


def best_split(form: Form, params: Mapping[str, Any], flops: ArrayLike, per_token: PowerLaw) -> tuple[Any, Any]:
    """The N and D that minimise the law at a compute.

    With D = C / (k N^s), dL/dN = 0 gives N^(alpha + s beta) = alpha A / (s beta B) (C / k)^beta: Hoffmann et al. 2022,
    equation 4, is k = 6 and s = 1. An outer power moves no minimum.
    """
    A, alpha, B, beta = (
        value
        for axis in (N_AXIS, D_AXIS)
        for term in form.terms
        if term.axis == axis
        for value in (params[term.coefficient], params[term.exponent] if term.exponent else 1.0)
    )
    k, s = per_token.coefficient, per_token.exponent
    C = np.asarray(flops, float)
    N = (alpha * A / (s * beta * B) * (C / k) ** beta) ** (1 / (alpha + s * beta))
    return N, C / (k * N**s)


def on_frontier(form: Form, params: Mapping[str, Any], flops: ArrayLike, per_token: PowerLaw) -> Array:
    """The metric of the best run at a compute."""
    N, D = best_split(form, params, flops, per_token)
    return form.predict(params, {N_AXIS: N, D_AXIS: D, U_AXIS: D})


def purchase(draws: Draws, flops: float) -> Purchase:
    """What a compute buys. Raises UserError where the law is underdetermined or has no N and D."""
    fit = _usable(draws.fit)
    per_token = flops_per_token(fit)
    N, D = best_split(fit.form, fit.params, flops, per_token)
    sizes, _ = best_split(fit.form, draws.params, flops, per_token)
    axes = {N_AXIS: np.array([N]), D_AXIS: np.array([D]), U_AXIS: np.array([D])}
    value = float(fit.predict(axes)[0])
    return Purchase(
        train_flops=flops,
        n_params=Estimate(float(N), *interval(sizes, LEVEL)),
        num_tokens=float(D),
        metric=Estimate(value, *interval(draws.new_runs(axes)[:, 0], LEVEL)),
        reach=flops / float(fit.points.axes[C_AXIS].max()),
    )


def cost(draws: Draws, target: float) -> Cost:
    """What a target costs. Raises UserError where the law never reaches it, or is underdetermined."""
    fit = _usable(draws.fit)
    per_token = flops_per_token(fit)
    largest = float(fit.points.axes[C_AXIS].max())
    value = float(_cheapest(fit.form, fit.params, target, per_token, largest))
    if not np.isfinite(value):
        floor = f"; its floor E is {fit.params['E']:.4g}" if "E" in fit.params else ""
        raise UserError(f"the law never reaches {target:g} within {SEARCHED:g} times the largest compute{floor}")
    costs = _cheapest(fit.form, draws.params, target, per_token, largest)
    low, high = np.quantile(costs, [(1 - LEVEL) / 2, (1 + LEVEL) / 2], method="lower")
    N, D = best_split(fit.form, fit.params, value, per_token)
    return Cost(
        target=target,
        train_flops=Estimate(value, float(low), float(high) if np.isfinite(high) else None),
        n_params=float(N),
        num_tokens=float(D),
        never=float(np.isinf(costs).mean()),
        reach=value / largest,
    )


def _cheapest(form: Form, params: Mapping[str, Any], target: float, per_token: PowerLaw, largest: float) -> Array:
    """Bisection in log C, because the frontier only falls; infinite where it never reaches the target."""
    shape = np.shape(params[form.names[0]])
    low, high = np.full(shape, np.log(largest / SEARCHED)), np.full(shape, np.log(largest * SEARCHED))
    reached = on_frontier(form, params, np.exp(high), per_token) <= target
    for _ in range(80):
        middle = (low + high) / 2
        enough = on_frontier(form, params, np.exp(middle), per_token) <= target
        low, high = np.where(enough, low, middle), np.where(enough, middle, high)
    return np.where(reached, np.exp(high), np.inf)


def _usable(fit: Fit) -> Fit:
    if fit.status == "underdetermined":
        raise UserError(f"the law is underdetermined, so it foretells nothing: {fit.reason}; add runs")
    return fit
