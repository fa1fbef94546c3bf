"""The distribution behind a forecast: several forms times noisy copies of the runs.

Four forms (`analysis.forecast.weighted_forms`) are fitted to the runs and to noisy copies of them. All
their predictions together, with the noise of one new run, are the distribution; its median is the prediction and its
quantiles the interval, so that disagreement between the forms counts as much as noise does. No form is chosen by how
well it fits: small sweeps cannot tell them apart, and pretending that they can is what makes intervals too narrow.
"""

from dataclasses import dataclass

import numpy as np

from analysis.forecast.joint_isoflop import PRIOR, PRIOR_SPREAD, JointIsoflopFit, fit_joint_isoflop
from analysis.forecast.values import TAILS
from analysis.forecast.weighted_forms import FORMS, NoisyCopies, WeightedForm
from analysis.laws.fit import Fit, fit_law
from analysis.laws.forms import C_AXIS, CHINCHILLA, D_AXIS, N_AXIS
from analysis.laws.isoflop import Frontier, IsoflopRuns, fit_frontier
from analysis.laws.newton import Objective
from analysis.laws.optimal_split import best_split
from analysis.laws.points import points
from analysis.tables.arrays import Array

COPIES = 300
"""Noisy copies of the runs, where no other number is asked for."""
PATH = 25
"""Compute values of the curve from the smallest budget to the target."""
NOISE_FLOOR = 0.005
"""Least relative noise of a run: with few degrees of freedom small residuals are luck. Assumed, not measured."""
LEAST_FREEDOM = 3
"""Least degrees of freedom that the copies assume: with one, a few copies of enormous noise would decide all."""


@dataclass(frozen=True)
class EnsembleMember:
    """The prediction of one form at the target; without the noise of the new run."""

    form: WeightedForm
    val_loss: float
    """Prediction of the form fitted to the losses as measured."""
    low: float
    high: float


@dataclass(frozen=True)
class Ensemble:
    """The forms fitted to the runs of one table, and what they predict for one target."""

    frontier: Frontier
    law: Fit
    law_n_params: float | None
    """Compute-optimal N of the law at the target; None where the law is underdetermined."""
    noise: float
    """Relative standard deviation of one run."""
    flops: Array
    """(path,), rising from the smallest budget to the target."""
    n_params: Array
    """(path,), the planned sizes: the minima of the joint isoFLOP fit."""
    exponent: float
    """a, the exponent of N in C along that path."""
    num_tokens: Array
    """(path,)"""
    val_loss: Array
    """(path,), the median; `low` and `high` are the quantiles TAILS."""
    low: Array
    high: Array
    n_params_interval: tuple[float, float]
    """Interval of the joint isoFLOP fit's minimum at the target."""
    members: tuple[EnsembleMember, ...]
    refusals: tuple[str, ...]


def fit_ensemble(runs: IsoflopRuns, target_flops: float, *, seed: int, copies: int = COPIES) -> Ensemble:
    """Fits every form to the runs, all of which have smaller budgets than `target_flops`.

    Raises UserError where there are fewer than two budgets or six runs.
    """
    frontier = fit_frontier(runs)
    # Least squares on log losses: with ten runs, a Huber loss of 1e-3 would pass exactly through five of them.
    measured_points = points({N_AXIS: runs.n_params, D_AXIS: runs.num_tokens}, runs.metric, runs=tuple(runs.run_ids))
    law = fit_law(measured_points, CHINCHILLA, Objective(delta=np.inf))
    refusals = [
        f"budget {optimum.flop_budget:.3g}: {optimum.refusal}" for optimum in frontier.optima if optimum.refusal
    ]
    rng = np.random.default_rng(seed)
    noise = _drawn_noise(law, copies, rng)
    noisy, joint = _noisy_copies(runs, noise, _noise_size(law), rng)
    if joint.refusals[0]:
        refusals.append(joint.refusals[0])
    flops = np.geomspace(noisy.budgets.min(), target_flops, PATH)
    n_params = np.array([joint.n_params(C)[0] for C in flops])
    targets = {C_AXIS: flops, N_AXIS: n_params, D_AXIS: flops / frontier.flops_per_token(n_params)}
    members, predictions = [], []
    for form in FORMS:
        if refusal := form.refusal(noisy):
            refusals.append(f"{form.name}: {refusal}")
            continue
        measured, *drawn = form.predict(noisy, targets)
        low, high = np.quantile(drawn, TAILS, axis=0)
        members.append(EnsembleMember(form, float(measured[-1]), float(low[-1]), float(high[-1])))
        new_run = np.exp(noise[:, None] * rng.standard_normal((copies, 1)))
        predictions += [np.stack(drawn) * new_run] * form.weight
    low, middle, high = np.quantile(np.concatenate(predictions), [TAILS[0], 0.5, TAILS[1]], axis=0)
    n_low, n_high = np.quantile(joint.n_params(target_flops)[1:], TAILS)
    determined = law.status != "underdetermined"
    return Ensemble(
        frontier=frontier,
        law=law,
        law_n_params=float(best_split(law.form, law.params, target_flops, frontier.flops_per_token)[0])
        if determined
        else None,
        noise=_noise_size(law),
        flops=flops,
        n_params=n_params,
        exponent=float(joint.exponent[0]),
        num_tokens=targets[D_AXIS],
        val_loss=middle,
        low=low,
        high=high,
        n_params_interval=(float(n_low), float(n_high)),
        members=tuple(members),
        refusals=tuple(refusals),
    )


def _noise_size(law: Fit) -> float:
    """Relative noise of one run, lack of fit of the law included.

    Residuals of the isoFLOP parabolas would not do: three sizes determine a parabola exactly.
    """
    return max(float(np.sqrt(np.square(law.residuals).sum() / law.freedom)), NOISE_FLOOR)


def _drawn_noise(law: Fit, copies: int, rng: np.random.Generator) -> Array:
    """A noise size for each copy, (copies,): the estimate is itself uncertain, by a chi-squared distribution."""
    freedom = max(law.freedom, LEAST_FREEDOM)
    return np.asarray(_noise_size(law) * np.sqrt(freedom / rng.chisquare(freedom, copies)))


def _noisy_copies(
    runs: IsoflopRuns, noise: Array, noise_size: float, rng: np.random.Generator
) -> tuple[NoisyCopies, JointIsoflopFit]:
    """The measured losses and a perturbed copy of them for each noise size, with the joint isoFLOP fit of each copy.

    A parametric bootstrap: three sizes a budget leave the forms on the frontier no residuals to resample.
    """
    measured = runs.metric
    perturbed = measured * np.exp(noise[:, None] * rng.standard_normal((len(noise), len(measured))))
    losses = np.vstack([measured, perturbed])
    priors = np.append(PRIOR, rng.normal(PRIOR, PRIOR_SPREAD, len(noise)))
    joint = fit_joint_isoflop(runs.n_params, runs.flop_budgets, losses, noise_size, priors)
    copies = NoisyCopies(
        axes={N_AXIS: runs.n_params, D_AXIS: runs.num_tokens},
        losses=losses,
        budgets=np.unique(runs.flop_budgets),
        best_losses=joint.best_losses,
    )
    return copies, joint
