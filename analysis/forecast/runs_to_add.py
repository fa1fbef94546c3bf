"""Which runs to add within a compute so that the interval of the law at a target shrinks most.

c-optimal design (Atkinson, Donev and Tobias 2007, chapter 10): to first order the variance of the law's log prediction
at the target is g' M^-1 g, with g its gradient and M the information of the runs, the sum of their gradients' outer
products. It depends on the law, which is uncertain, so its logarithm is averaged over draws of the bootstrap.
Candidates are divided evenly: 1, 2, 4, ... runs of equal compute, each of any size. Runs are chosen one by one, then
each once more given all others.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np

from analysis.forecast.values import LEVEL
from analysis.laws.bootstrap import Draws, interval
from analysis.laws.fit import Fit, natural
from analysis.laws.forms import C_AXIS, D_AXIS, N_AXIS, U_AXIS
from analysis.laws.optimal_split import best_split, flops_per_token
from analysis.laws.points import Points
from analysis.laws.search import Problem
from analysis.tables.arrays import Array
from scaling.core.errors import UserError

COUNTS = (1, 2, 4, 8, 16)
SIZES = 41
"""Sizes tried at each compute."""
MOST_EXTRAPOLATION = 2.0
"""Runs are tried up to this factor beyond the sizes, and beyond the tokens per parameter, of the runs there are. Runs
further away would seem to be worth most, but there the law itself is a guess."""
LAWS = 20
"""Draws of the bootstrap that the variance is averaged over."""
COPIES = 1000
"""Noisy copies of the runs, old and new, by which a suggestion is checked."""


@dataclass(frozen=True)
class NewRun:
    """A run to add."""

    n_params: float
    num_tokens: float
    train_flops: float


@dataclass(frozen=True)
class RunsToAdd:
    """The suggested runs, and by how much they narrow the interval in simulation."""

    runs: tuple[NewRun, ...]
    train_flops: float
    """Training FLOPs of all of them together."""
    target_flops: float
    width_now: float
    """Width of the 90 % interval of the law at the target, relative to the law, from the runs there are."""
    width_then: float
    """The same width with the suggested runs added."""
    width_even: float
    """The same width with as many runs of the same compute, evenly spread in log N over the candidate sizes."""


def suggest(draws: Draws, target_flops: float, extra_flops: float, *, seed: int) -> RunsToAdd:
    """The runs to add for `extra_flops` in all, for the law at the best run of `target_flops`.

    Raises UserError where the law has no N and D, repeats data, or is not determined by the runs.
    """
    fit = draws.fit
    if fit.form.repeats or fit.status == "underdetermined":
        raise UserError(
            f"the law {fit.form.name} ({fit.status}) suggests no runs; fit chinchilla, or vary N and D apart"
        )
    per_token = flops_per_token(fit)
    N, D = best_split(fit.form, fit.params, target_flops, per_token)
    target = {N_AXIS: np.array([N]), D_AXIS: np.array([D])}
    thetas = _thetas(draws)
    sizes = fit.points.axes[N_AXIS]
    grid = np.geomspace(sizes.min() / MOST_EXTRAPOLATION, sizes.max() * MOST_EXTRAPOLATION, SIZES)
    options: list[tuple[NewRun, ...]] = []
    even_runs = {}
    for count in COUNTS:
        flops = extra_flops / count
        candidates = _candidates(fit, grid, flops / per_token(grid))
        last = len(candidates[N_AXIS]) - 1
        if last >= 0:
            try:
                chosen = _choose(fit, thetas, target, candidates, count)
            except np.linalg.LinAlgError:
                raise UserError(
                    f"the runs do not separate the parameters of {fit.form.name} well enough to suggest further ones; "
                    "leave --add out, or choose a smaller law"
                ) from None
            options.append(_runs(candidates, flops, chosen))
            spread = np.linspace(0, last, count) if count > 1 else [last / 2]
            even_runs[count] = _runs(candidates, flops, spread)
    if not options:
        raise UserError(f"{extra_flops:.3g} FLOPs buy no run near those of the table; give another compute")
    # The first-order variance ranks the sizes within an option; noisy copies choose between options, and others judge.
    runs = min(options, key=lambda option: simulated_width(fit, option, target, [seed, 0]))
    widths = [simulated_width(fit, added, target, [seed, 1]) for added in ((), runs, even_runs[len(runs)])]
    return RunsToAdd(runs, extra_flops, target_flops, *widths)


def _runs(candidates: dict[str, Array], flops: float, chosen: Iterable[float]) -> tuple[NewRun, ...]:
    N, D = candidates[N_AXIS], candidates[D_AXIS]
    return tuple(NewRun(float(N[int(i)]), float(D[int(i)]), flops) for i in chosen)


def simulated_width(fit: Fit, added: tuple[NewRun, ...], target: dict[str, Array], seed: list[int]) -> float:
    """Relative width of the 90 % interval of the law at the target, were the fit the truth: noisy copies of the runs
    and of those added are fitted anew. target: axis -> (1,)."""
    axes = {name: np.concatenate([fit.points.axes[name], _column(added, name)]) for name in (N_AXIS, D_AXIS, C_AXIS)}
    truth, weights = fit.predict(axes), np.append(fit.points.weights, np.ones(len(added)))
    relative = fit.residuals / fit.points.metric if fit.measure.raw else fit.residuals
    noise = np.sqrt(np.square(relative).sum() / fit.freedom / weights)
    rng = np.random.default_rng(seed)
    copies = truth * np.exp(noise * rng.standard_normal((COPIES, len(truth))))
    problem = Problem(fit.form, Points(axes, truth, tuple(map(str, range(len(truth)))), weights), fit.measure)
    start = problem.optima()[0].theta
    thetas, _ = problem.copies(copies, np.broadcast_to(weights, copies.shape), start[None])
    params = {name: values[:, None] for name, values in natural(problem, thetas).items()}
    low, high = interval(fit.form.predict(params, target)[:, 0], LEVEL)
    return (high - low) / float(fit.predict(target)[0])


def _candidates(fit: Fit, N: Array, D: Array) -> dict[str, Array]:
    """The runs among these that have about as many tokens per parameter as the runs of the fit."""
    tokens_per_param = fit.points.axes[D_AXIS] / fit.points.axes[N_AXIS]
    similar = (tokens_per_param.min() / MOST_EXTRAPOLATION <= D / N) & (
        tokens_per_param.max() * MOST_EXTRAPOLATION >= D / N
    )
    return {N_AXIS: N[similar], D_AXIS: D[similar]}


def _column(runs: tuple[NewRun, ...], name: str) -> Array:
    return np.array([getattr(run, name) for run in runs], float)


def _thetas(draws: Draws) -> Array:
    """(laws, parameters) in centered units: the fit, and some of its draws in which no term is 0."""
    form, means = draws.fit.form, draws.fit.problem.means
    columns: dict[str, Any] = dict(draws.params)
    for term in form.terms:
        power = draws.params[term.exponent] if term.exponent else 1.0
        with np.errstate(divide="ignore"):
            log = np.log(draws.params[term.coefficient])
        columns[term.coefficient] = log - (power * means[term.axis] if term.axis else 0.0)
    thetas = np.column_stack([columns[name] for name in form.names])
    finite = thetas[np.isfinite(thetas).all(axis=1)][: LAWS - 1]
    return np.vstack([draws.fit.optima[0].theta, finite])


def _gradients(fit: Fit, thetas: Array, axes: dict[str, Array]) -> Array:
    """(laws, points, free parameters), of the log prediction at any runs, in the fit's centered units."""
    count = len(axes[N_AXIS])
    points = Points(axes | {U_AXIS: axes[D_AXIS]}, np.ones(count), tuple(map(str, range(count))), np.ones(count))
    problem = Problem(fit.form, points, fit.measure, fit.problem.means)
    free = [i for i, name in enumerate(fit.form.names) if name in fit.form.free]
    return problem.design().jacobian(thetas)[:, :, free]


def _choose(fit: Fit, thetas: Array, target: dict[str, Array], candidates: dict[str, Array], count: int) -> list[int]:
    """Indices of the `count` candidates, which may repeat, that give the least mean log variance at the target."""
    target_gradients = _gradients(fit, thetas, target)[:, 0]
    old = _gradients(fit, thetas, {name: fit.points.axes[name] for name in (N_AXIS, D_AXIS)})
    new = _gradients(fit, thetas, candidates)
    information = np.einsum("lip,liq,i->lpq", old, old, fit.points.weights)
    gains = np.einsum("lcp,lcq->lcpq", new, new)

    def variances(base: Array) -> Array:
        """(candidates,), of adding each to a base of information, (laws, p, p)."""
        solved = np.linalg.solve(
            base[:, None] + gains, np.broadcast_to(target_gradients[:, None, :, None], (*new.shape, 1))
        )[..., 0]
        return np.asarray(np.log(np.einsum("lp,lcp->lc", target_gradients, solved)).mean(axis=0))

    chosen: list[int] = []
    for step in range(2 * count):
        if step >= count:
            information = information - gains[:, chosen.pop(0)]
        best = int(variances(information).argmin())
        chosen.append(best)
        information = information + gains[:, best]
    return sorted(chosen)
