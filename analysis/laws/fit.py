"""A fitted law as a value, and the function that makes it.

Not here: intervals (`analysis.laws.bootstrap`) and how far other choices move the fit (`analysis.laws.sensitivity`).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike

from analysis.laws.forms import Form
from analysis.laws.newton import Objective
from analysis.laws.points import Points, check_points
from analysis.laws.repeats import HALF_LIVES
from analysis.laws.search import LocalOptimum, Problem
from analysis.laws.starts import EXPONENTS, OUTER
from analysis.tables.arrays import Array

SINGULAR = 3000.0
"""Condition number of the column-scaled Jacobian above which runs do not separate the parameters. Measured: 33 for the
Chinchilla data, 20 to 60 for three budgets of three or four sizes, above 10 000 where N and D grow together."""
RIVAL = 4.0
"""Another optimum is a rival where its objective is within this many times objective / (points - parameters) of the
lowest: twice that is one unit of chi-squared, and 3.84 units are 95 %."""
APART = 0.02
"""Two optima differ where an exponent, or the logarithm of a coefficient in centered units, does by this much."""

FitStatus = Literal["converged", "bound_hit", "multimodal", "underdetermined", "not_converged"]


@dataclass(frozen=True, eq=False)
class Fit:
    """A fitted law and what is needed to judge it."""

    form: Form
    params: dict[str, float]
    """In the units of the table."""
    objective: float
    """Sum over the points of weight times the Huber loss of the residual."""
    measure: Objective
    residuals: Array
    """(points,), log(measured) - log(fitted), or measured - fitted where `measure.raw`."""
    status: FitStatus
    reason: str
    """Why the status is not `converged`; empty where it is."""
    points: Points
    """The runs used, in the order of the residuals."""
    optima: tuple[LocalOptimum, ...]
    """The best optimum, then its rivals, with the parameters of `analysis.laws.search`."""

    @property
    def a(self) -> float | None:
        """Exponent of the best N in C, where C is proportional to N D; None where the form has no N and D."""
        return float(self.form.share(self.params)[0]) if self.form.splits_compute else None

    @property
    def b(self) -> float | None:
        """Exponent of the best D in C, where C is proportional to N D; None where the form has no N and D."""
        return float(self.form.share(self.params)[1]) if self.form.splits_compute else None

    @property
    def freedom(self) -> int:
        """Degrees of freedom of the residuals, at least 1."""
        return max(len(self.residuals) - len(self.form.free), 1)

    @property
    def problem(self) -> Problem:
        return Problem(self.form, self.points, self.measure)

    def predict(self, axes: Mapping[str, ArrayLike]) -> Array:
        """The law's metric at values of its axes that broadcast."""
        return self.form.predict(self.params, axes)


def fit_law(points: Points, form: Form, measure: Objective | None = None) -> Fit:
    """Fits a form; by default by the Huber loss of log residuals with delta 1e-3, as is usual for language models.

    Objective(delta=inf) is least squares of log residuals, which suits few runs with Gaussian noise.
    Raises UserError where the points are too few for the form or never vary along an axis.
    """
    check_points(points, form)
    problem = Problem(form, points, measure or Objective())
    optima = problem.optima()
    best = optima[0]
    rivals = _rivals(optima, len(points), len(form.free))
    params = natural(problem, best.theta[None])
    fitted = form.predict({name: values[0] for name, values in params.items()}, points.axes)
    residuals = points.metric - fitted if problem.objective.raw else np.log(points.metric / fitted)
    status, reason = _judge(problem, best, rivals)
    return Fit(
        form=form,
        params={name: float(values[0]) for name, values in params.items()},
        objective=float((points.weights * problem.objective.huber(residuals)).sum()),
        measure=problem.objective,
        residuals=residuals,
        status=status,
        reason=reason,
        points=points,
        optima=(best, *rivals),
    )


def natural(problem: Problem, thetas: Array) -> dict[str, Array]:
    """Parameters in the units of the table, name -> (copies,), from (copies, parameters) in centered units."""
    form = problem.form
    params = dict(zip(form.names, thetas.T, strict=True))
    for term in form.terms:
        power = params[term.exponent] if term.exponent else 1.0
        unit = problem.means[term.axis] * (-power if term.rising else power) if term.axis else 0.0
        log = params[term.coefficient]
        zero = log <= problem.smallest + 1e-9 if not form.outer else np.zeros(len(thetas), bool)
        params[term.coefficient] = np.where(zero, 0.0, np.exp(log + unit))
    return params


def _rivals(optima: list[LocalOptimum], points: int, parameters: int) -> tuple[LocalOptimum, ...]:
    """Settled optima that are nearly as low as the first and apart from it and from each other."""
    best = optima[0]
    highest_value = best.value * (1 + RIVAL / max(points - parameters, 1))
    distinct = [best]
    for optimum in optima[1:]:
        is_distinct = all(np.abs(optimum.theta - optimum_before.theta).max() > APART for optimum_before in distinct)
        if optimum.converged and optimum.value <= highest_value and is_distinct:
            distinct.append(optimum)
    return tuple(distinct[1:])


def _judge(problem: Problem, best: LocalOptimum, rivals: tuple[LocalOptimum, ...]) -> tuple[FitStatus, str]:
    form = problem.form
    half_life = float(best.theta[-1]) if form.repeats else None
    design = problem.design(half_life)
    theta = best.theta[: design.slopes.shape[2]]
    shares = design.terms(theta[None])[0][0].max(axis=1)  # (terms,): the most that each term ever is
    for term, share in zip(form.terms, shares, strict=True):
        if term.axis and share < 1e-7:
            return "underdetermined", f"{term.coefficient} is 0, so {term.exponent or term.axis} means nothing"
    jacobian = design.jacobian(theta[None])[0] * np.sqrt(problem.points.weights)[:, None]
    jacobian = jacobian[:, [i for i, name in enumerate(form.names[: len(theta)]) if name in form.free]]
    condition = np.linalg.cond(jacobian / np.linalg.norm(jacobian, axis=0))
    if condition > SINGULAR:
        return "underdetermined", f"the runs do not separate the parameters (condition number {condition:.1e})"
    for term, share in zip(form.terms, shares, strict=True):
        if share < 1e-7:
            return "bound_hit", f"{term.coefficient} is 0, its lower bound"
    ends = {name: EXPONENTS for name in form.exponents} | ({form.outer: OUTER} if form.outer else {})
    for name, pair in ends.items():
        value = float(theta[form.names.index(name)])
        if name in form.free and any(abs(value / end - 1) < 1e-6 for end in pair):
            return "bound_hit", f"{name} is {value:.3g}, an end of the range searched"
    if half_life is not None and any(abs(half_life / end - 1) < 1e-3 for end in HALF_LIVES):
        return "bound_hit", f"{form.repeats} is {half_life:.3g}, an end of the range searched"
    if rivals:
        rival = natural(problem, rivals[0].theta[None])
        listed = ", ".join(f"{name} {values[0]:.3g}" for name, values in rival.items())
        return "multimodal", f"another optimum is as good ({rivals[0].value:.4g} against {best.value:.4g}): {listed}"
    if not best.converged:
        return "not_converged", "the search ended before it settled"
    return "converged", ""
