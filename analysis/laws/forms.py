"""The forms of a law. Each is a sum of powers, perhaps raised to an outer power; nothing here knows how it is fitted.

In logarithms every one of them is

    log L = outer * log sum_k exp(log c_k - exponent_k * log axis_k)

a log-sum-exp of functions that are linear in the parameters, which is what `analysis.laws.newton` minimizes over.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from analysis.laws.repeats import effective_tokens
from analysis.tables.arrays import Array
from scaling.core.errors import UserError

N_AXIS, D_AXIS, C_AXIS, U_AXIS = "n_params", "num_tokens", "train_flops", "unique_tokens"


@dataclass(frozen=True)
class Term:
    """c / axis^exponent; without an axis the floor."""

    coefficient: str
    axis: str = ""
    exponent: str = ""
    """Name of the exponent, which terms with the same name share; empty where it is 1."""
    rising: bool = False
    """c * axis^exponent instead."""


@dataclass(frozen=True)
class Form:
    """A hypothesis about how a metric depends on the axes of a run."""

    name: str
    formula: str
    source: str
    terms: tuple[Term, ...]
    outer: str = ""
    """Name of the power that the sum is raised to; empty where it is 1."""
    repeats: str = ""
    """Name of the half-life of repetition that turns tokens into effective tokens (`analysis.laws.repeats`)."""
    fixed: tuple[tuple[str, float], ...] = ()
    """Parameters that are known and not fitted, with their values."""

    @property
    def axes(self) -> tuple[str, ...]:
        """The columns of a table that the form needs."""
        named = tuple(dict.fromkeys(term.axis for term in self.terms if term.axis))
        return (*named, U_AXIS) if self.repeats else named

    @property
    def coefficients(self) -> tuple[str, ...]:
        return tuple(term.coefficient for term in self.terms)

    @property
    def exponents(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(term.exponent for term in self.terms if term.exponent))

    @property
    def names(self) -> tuple[str, ...]:
        """The parameters in the order of the fitter's vector: coefficients, exponents, outer power, half-life."""
        return (*self.coefficients, *self.exponents, *filter(None, (self.outer, self.repeats)))

    @property
    def free(self) -> tuple[str, ...]:
        """The parameters that are fitted."""
        fixed = dict(self.fixed)
        return tuple(name for name in self.names if name not in fixed)

    def fix(self, **values: float) -> "Form":
        """The form with known values for its floor or exponents. Raises UserError for other names or values."""
        known = (*(term.coefficient for term in self.terms if not term.axis), *self.exponents)
        for name, value in values.items():
            if name not in known:
                raise UserError(f"{name} of {self.name} cannot be fixed; choose from {', '.join(known)}")
            if not (np.isfinite(value) and value > 0):
                raise UserError(f"{name} is fixed at {value:g}, but must be a positive number")
        return replace(self, fixed=(*self.fixed, *values.items()))

    @property
    def splits_compute(self) -> bool:
        """Whether compute can be shared out between N and D, so that a and b mean something."""
        return {N_AXIS, D_AXIS} <= set(self.axes)

    def predict(self, params: Mapping[str, float | Array], axes: Mapping[str, ArrayLike]) -> Array:
        """The metric at values of the axes that broadcast with each other and with the parameters, in natural units."""
        known = {name: np.asarray(axes[name], float) for name in self.axes}
        if self.repeats:
            known[D_AXIS] = effective_tokens(known[D_AXIS], known[U_AXIS], params[self.repeats])
        total: Any = 0.0
        for term in self.terms:
            power = params[term.exponent] if term.exponent else 1.0
            sign = 1.0 if term.rising else -1.0
            total = total + params[term.coefficient] * (known[term.axis] ** (sign * power) if term.axis else 1.0)
        return np.asarray(total ** params[self.outer] if self.outer else total)

    def share(self, params: Mapping[str, float | Array]) -> tuple[Any, Any]:
        """a and b, the exponents of the best N and D in C where C is proportional to N D.

        Hoffmann et al. 2022 (arXiv 2203.15556), equation 4. An outer power moves no minimum.
        """
        alpha, beta = (
            next(params[term.exponent] if term.exponent else 1.0 for term in self.terms if term.axis == axis)
            for axis in (N_AXIS, D_AXIS)
        )
        return beta / (alpha + beta), alpha / (alpha + beta)


E, A, B = Term("E"), Term("A", N_AXIS, "alpha"), Term("B", D_AXIS, "beta")

CHINCHILLA = Form(
    "chinchilla",
    "L = E + A/N^alpha + B/D^beta",
    "Hoffmann et al. 2022, arXiv 2203.15556, equation 2",
    (E, A, B),
)
TWO_AXES = (
    CHINCHILLA,
    Form(
        "chinchilla-no-floor",
        "L = A/N^alpha + B/D^beta",
        "Hoffmann et al. 2022, with E = 0",
        (A, B),
    ),
    Form(
        "shared",
        "L = E + A/N^gamma + B/D^gamma",
        "Gadre et al. 2024, arXiv 2403.08540, equation 4",
        (E, Term("A", N_AXIS, "gamma"), Term("B", D_AXIS, "gamma")),
    ),
    Form(
        "kaplan",
        "L = (A/N^kappa + B/D)^beta",
        "Kaplan et al. 2020, arXiv 2001.08361, equation 1.5: kappa = alpha_N/alpha_D, beta = alpha_D, "
        "A = N_c^kappa, B = D_c",
        (Term("A", N_AXIS, "kappa"), Term("B", D_AXIS)),
        outer="beta",
    ),
    Form(
        "repeated",
        "L = E + A/N^alpha + B/D'^beta, D' = U (1 + R (1 - exp(-(D/U - 1)/R)))",
        "Muennighoff et al. 2023, arXiv 2305.16264, equation 5; excess parameters are not discounted",
        (E, A, B),
        repeats="R",
    ),
)
LAWS = (*(form.name for form in TWO_AXES), "power", "power-floor", "metric")


def law(name: str, against: str = C_AXIS) -> Form:
    """The form of that name. `against` is the axis of the forms that have one axis, any column of a table.

    Raises UserError for a name that is no form.
    """
    fall, rise = Term("K", against, "gamma"), Term("K", against, "kappa", rising=True)
    one_axis = (
        Form("power", f"K/{against}^gamma", "a power law without a floor", (fall,)),
        Form(
            "power-floor", f"E + K/{against}^gamma", "Henighan et al. 2020, arXiv 2010.14701, equation 1.1", (E, fall)
        ),
        Form("metric", f"E + K {against}^kappa", "one metric from another that falls with it", (E, rise)),
    )
    named = next((form for form in (*TWO_AXES, *one_axis) if form.name == name), None)
    if named is None:
        raise UserError(f"no law '{name}'; choose from {', '.join(LAWS)}")
    return named
