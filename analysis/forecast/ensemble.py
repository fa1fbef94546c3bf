"""The distribution behind a forecast: forms times noisy copies of the runs.

Four forms (`analysis.forecast.forms`) are fitted to the runs and to noisy copies of them. All their predictions
together, with the noise of one new run, are the distribution; its median is the prediction and its quantiles the
interval, so that disagreement between the forms counts as much as noise does. No form is chosen by how well it fits:
small sweeps cannot tell them apart, and pretending that they can is what makes intervals too narrow.
"""

from dataclasses import dataclass

import numpy as np
import pandas as pd

from analysis.forecast.forms import FORMS, Form, Sweep, Targets
from analysis.forecast.joint_isoflop import PRIOR, PRIOR_SPREAD, Valley, fit_valleys
from analysis.laws.fit import Fit, fit_law
from analysis.laws.forms import CHINCHILLA, D_AXIS, N_AXIS
from analysis.laws.isoflop import Frontier, PowerLaw, fit_frontier
from analysis.laws.newton import Objective
from analysis.laws.points import points
from analysis.laws.varpro import Array

LEVEL = 0.90
TAILS = ((1 - LEVEL) / 2, (1 + LEVEL) / 2)
COPIES = 300
PATH = 25
"""Compute values of the curve from the smallest budget to the target."""
NOISE_FLOOR = 0.005
"""Least relative noise of a run. With few degrees of freedom small residuals are luck. Assumed, not measured."""
LEAST_FREEDOM = 3
"""Degrees of freedom that copies assume at least: with one, a few copies of boundless noise would be all one sees."""


@dataclass(frozen=True)
class Member:
    """One form's share of the mixture, at the target; without the noise of the new run."""

    form: Form
    val_loss: float
    """Fitted to the losses as measured."""
    low: float
    high: float


@dataclass(frozen=True)
class Ensemble:
    """Everything computed of one table and one target."""

    frontier: Frontier
    law: Fit
    law_n_params: float | None
    """Compute-optimal N of the law at the target; None where the law is underdetermined."""
    noise: float
    """Relative standard deviation of one run."""
    flops: Array
    """(path,), rising from the smallest budget to the target."""
    n_params: Array
    """(path,), the planned sizes: the valley's bottom."""
    exponent: float
    """a, of N in C along that path."""
    num_tokens: Array
    """(path,)"""
    val_loss: Array
    """(path,), the median; `low` and `high` are the quantiles TAILS."""
    low: Array
    high: Array
    n_params_interval: tuple[float, float]
    """Of the valley's bottom at the target."""
    members: tuple[Member, ...]
    refusals: tuple[str, ...]


def predict(table: pd.DataFrame, target_flops: float, seed: int) -> Ensemble:
    """Fits every form to the runs of the table, all of which have smaller budgets than `target_flops`.

    Raises UserError where there are fewer than two budgets or six runs.
    """
    frontier = fit_frontier(table)
    # Least squares on log losses: with ten runs, a Huber loss of 1e-3 would pass exactly through five of them.
    runs = points({axis: table[axis] for axis in (N_AXIS, D_AXIS)}, table["val_loss"], runs=tuple(table["run_id"]))
    law = fit_law(runs, CHINCHILLA, Objective(delta=np.inf))
    refusals = [
        f"budget {optimum.flop_budget:.3g}: {optimum.refusal}" for optimum in frontier.optima if optimum.refusal
    ]
    rng = np.random.default_rng(seed)
    noise = _noise(law, rng)
    sweep, valley = _noisy_copies(table, noise, _noise_size(law), rng)
    if valley.edge[0]:
        refusals.append(valley.edge[0])
    flops = np.geomspace(sweep.budgets.min(), target_flops, PATH)
    n_params = np.array([valley.n_params(C)[0] for C in flops])
    targets = Targets(flops, n_params, flops / frontier.flops_per_token(n_params))
    members, mixture = [], []
    for form in FORMS:
        if refusal := form.refusal(sweep):
            refusals.append(f"{form.name}: {refusal}")
            continue
        measured, *copies = form.predict(sweep, targets)
        low, high = np.quantile(copies, TAILS, axis=0)
        members.append(Member(form, float(measured[-1]), float(low[-1]), float(high[-1])))
        new_run = np.exp(noise[:, None] * rng.standard_normal((COPIES, 1)))
        mixture += [np.stack(copies) * new_run] * form.weight
    low, middle, high = np.quantile(np.concatenate(mixture), [TAILS[0], 0.5, TAILS[1]], axis=0)
    n_low, n_high = np.quantile(valley.n_params(target_flops)[1:], TAILS)
    return Ensemble(
        frontier=frontier,
        law=law,
        law_n_params=optimal_size(law, frontier.flops_per_token, target_flops),
        noise=_noise_size(law),
        flops=flops,
        n_params=n_params,
        exponent=float(valley.exponent[0]),
        num_tokens=targets.num_tokens,
        val_loss=middle,
        low=low,
        high=high,
        n_params_interval=(float(n_low), float(n_high)),
        members=tuple(members),
        refusals=tuple(refusals),
    )


def optimal_size(law: Fit, flops_per_token: PowerLaw, flops: float) -> float | None:
    """The N that minimises the law at a budget; None where the law is underdetermined.

    With D = C / (k N^s), dL/dN = 0 gives N^(alpha + s beta) = alpha A / (s beta B) (C / k)^beta: Hoffmann et al. 2022,
    equation 4, is k = 6 and s = 1.
    """
    if law.status == "underdetermined":
        return None
    k, s = flops_per_token.coefficient, flops_per_token.exponent
    A, B, alpha, beta = (law.params[name] for name in ("A", "B", "alpha", "beta"))
    ratio = alpha * A / (s * beta * B) * (flops / k) ** beta
    return float(ratio ** (1 / (alpha + s * beta)))


def _noise_size(law: Fit) -> float:
    """Relative noise of one run, lack of fit of the law included.

    Residuals of the isoFLOP parabolas would not do: three sizes determine a parabola exactly.
    """
    return max(float(np.sqrt(np.square(law.residuals).sum() / law.freedom)), NOISE_FLOOR)


def _noise(law: Fit, rng: np.random.Generator) -> Array:
    """A noise size for each copy, (COPIES,): the estimate is itself uncertain, by a chi-squared distribution."""
    freedom = max(law.freedom, LEAST_FREEDOM)
    return _noise_size(law) * np.sqrt(freedom / rng.chisquare(freedom, COPIES))


def _noisy_copies(
    table: pd.DataFrame, noise: Array, noise_size: float, rng: np.random.Generator
) -> tuple[Sweep, Valley]:
    """The measured losses and COPIES perturbed ones, and the valley of each.

    A parametric bootstrap: three sizes a budget leave the forms on the frontier no residuals to resample.
    """
    measured = table["val_loss"].to_numpy(float)
    perturbed = measured * np.exp(noise[:, None] * rng.standard_normal((COPIES, len(measured))))
    losses = np.vstack([measured, perturbed])
    n_params, flop_budgets = table["n_params"].to_numpy(float), table["flop_budget"].to_numpy(float)
    priors = np.append(PRIOR, rng.normal(PRIOR, PRIOR_SPREAD, COPIES))
    valley = fit_valleys(n_params, flop_budgets, losses, noise_size, priors)
    sweep = Sweep(
        n_params=n_params,
        num_tokens=table["num_tokens"].to_numpy(float),
        losses=losses,
        budgets=np.unique(flop_budgets),
        best_losses=valley.best_losses,
    )
    return sweep, valley
