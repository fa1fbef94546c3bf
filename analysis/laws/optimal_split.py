"""The optimum at a budget: how a law of N and D divides a training compute between them, and what loss that reaches.

Training FLOPs per token are a power of N, k N^s, fitted to the runs: attention and embeddings make it other than 6 N.
Of a law with repeated data this is the answer for fresh data.
Not here: intervals, and the compute that a loss takes (`analysis.forecast.by_law`).
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from analysis.laws.fit import Fit
from analysis.laws.forms import C_AXIS, D_AXIS, N_AXIS, U_AXIS, Form
from analysis.laws.power import PowerLaw, fit_power
from analysis.tables.arrays import Array
from scaling.core.errors import UserError


def flops_per_token(fit: Fit) -> PowerLaw:
    """k N^s of the runs. Raises UserError where the law has no N and D to share compute between."""
    if not fit.form.splits_compute:
        raise UserError(f"the law {fit.form.name} has no N and D to share compute between; choose chinchilla")
    axes = fit.points.axes
    return fit_power(axes[N_AXIS], axes[C_AXIS] / axes[D_AXIS])


def best_split(form: Form, params: Mapping[str, Any], flops: ArrayLike, per_token: PowerLaw) -> tuple[Any, Any]:
    """The N and D that minimize the law at a compute.

    With D = C / (k N^s), dL/dN = 0 gives N^(alpha + s beta) = alpha A / (s beta B) (C / k)^beta: Hoffmann et al. 2022,
    equation 4, is k = 6 and s = 1. An outer power moves no minimum. A law whose term of N or D is 0 has no minimum: N
    is then 0, infinite or NaN.
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
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        N = (alpha * A / (s * beta * B) * (C / k) ** beta) ** (1 / (alpha + s * beta))
        return N, C / (k * N**s)


def best_metric(form: Form, params: Mapping[str, Any], flops: ArrayLike, per_token: PowerLaw) -> Array:
    """The metric of the best run at a compute."""
    N, D = best_split(form, params, flops, per_token)
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):  # of a law without a best run it is NaN
        return form.predict(params, {N_AXIS: N, D_AXIS: D, U_AXIS: D})
