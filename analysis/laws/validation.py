"""How well a law extrapolates: it is fitted to the smaller budgets and predicts the runs of the larger ones.

A law that fits well may extrapolate badly, so forms are compared by this error and not by how well they fit.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from analysis.laws.bootstrap import bootstrap
from analysis.laws.budgets import budget_numbers
from analysis.laws.fit import Fit, fit_law
from analysis.laws.forms import C_AXIS, Form
from analysis.laws.newton import Objective
from analysis.laws.points import Points
from analysis.tables.arrays import Array
from scaling.core.errors import UserError

LEVEL = 0.90
DRAWS = 200
CUTS = 3
"""Forms are compared at this many of the largest cuts, whose reach is nearest to that of the next forecast."""


@dataclass(frozen=True)
class Holdout:
    """The runs above one cut of compute, predicted from those below it."""

    up_to_flops: float
    """Largest compute seen."""
    reach: float
    """Largest compute predicted over the largest seen."""
    n_seen: int
    n_predicted: int
    errors: tuple[float, ...]
    """log(predicted) - log(measured) of each predicted run; negative is too optimistic."""
    bias: float
    """Mean of `errors`."""
    rms: float
    covered: float
    """Share of the predicted runs that lie within their 90 % intervals for a new run."""
    params: dict[str, float]
    """Parameters of the law fitted below the cut. A floor that drifts from cut to cut is not to be trusted."""
    status: str


@dataclass(frozen=True)
class HeldOutError:
    """The held-out error of a form, over the cuts below which every compared form can be fitted."""

    law: str
    rms: float
    bias: float


def expanding_windows(points: Points, form: Form, measure: Objective, *, seed: int) -> tuple[Holdout, ...]:
    """One holdout for each cut between budgets below which the form can be fitted, smallest first.

    Raises UserError where the points have no compute.
    """
    holdouts = []
    for fitted, held_out in _cuts(points):
        try:
            fit = fit_law(fitted, form, measure)
        except UserError:  # too few runs below this cut
            continue
        holdouts.append(_holdout(fit, held_out, seed))
    return tuple(holdouts)


def compare_forms(points: Points, forms: Sequence[Form], measure: Objective) -> tuple[HeldOutError, ...]:
    """The forms by held-out error at the largest cuts, best first. Empty where none leaves enough runs for all."""
    errors: dict[str, list[Array]] = {form.name: [] for form in forms}
    for fitted, held_out in list(_cuts(points))[-CUTS:]:
        try:
            fits = [fit_law(fitted, form, measure) for form in forms]
        except UserError:  # too few runs below this cut for one of the forms
            continue
        for fit in fits:
            errors[fit.form.name].append(np.log(fit.predict(held_out.axes) / held_out.metric))
    pooled = [(name, np.concatenate(parts)) for name, parts in errors.items() if parts]
    ranked = [HeldOutError(name, float(np.sqrt(np.square(e).mean())), float(e.mean())) for name, e in pooled]
    return tuple(sorted(ranked, key=lambda error: error.rms))


def _cuts(points: Points) -> Iterator[tuple[Points, Points]]:
    if C_AXIS not in points.axes:
        raise UserError("runs without train_flops cannot be ordered by compute; add the column")
    budgets = budget_numbers(points.axes[C_AXIS])
    for cut in np.unique(budgets)[1:]:
        yield points.take(budgets < cut), points.take(budgets >= cut)


def _holdout(fit: Fit, held_out: Points, seed: int) -> Holdout:
    errors = np.log(fit.predict(held_out.axes) / held_out.metric)
    new = bootstrap(fit, draws=DRAWS, seed=seed).new_runs(held_out.axes)
    low, high = np.quantile(new, [(1 - LEVEL) / 2, (1 + LEVEL) / 2], axis=0)
    fitted_flops = fit.points.axes[C_AXIS]
    return Holdout(
        up_to_flops=float(fitted_flops.max()),
        reach=float(held_out.axes[C_AXIS].max() / fitted_flops.max()),
        n_seen=len(fit.points),
        n_predicted=len(held_out),
        errors=tuple(errors.tolist()),
        bias=float(errors.mean()),
        rms=float(np.sqrt(np.square(errors).mean())),
        covered=float(((low <= held_out.metric) & (held_out.metric <= high)).mean()),
        params=fit.params,
        status=fit.status,
    )
