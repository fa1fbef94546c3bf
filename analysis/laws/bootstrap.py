"""How sure a fit is: copies of the runs, a fit to each, and the spread of those fits.

From ENOUGH_RUNS runs on, whole runs are drawn with replacement (never the checkpoints of a run one by one, which share
its noise). With fewer, resampling would often lose whole budgets or sizes, so the design is kept and residuals are
given new random signs (wild bootstrap, Wu 1986). Either way a fit is closer to its own runs than to new ones: `_spread`
and `_wild` correct for that, and `benchmarks.law_calibration` counts how often the intervals hold. Neither knows the
error of the law's form.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from analysis.laws.fit import Fit, natural
from analysis.tables.arrays import Array

ENOUGH_RUNS = 30
"""With fewer runs than this, every copy keeps the design."""
LEVEL = 0.95
LEAST_FREE_SHARE = 0.05
"""Lower bound of 1 - leverage: a point that decides a parameter alone has almost no residual to divide by it."""


@dataclass(frozen=True, eq=False)
class Draws:
    """A fit, refitted to copies of its runs."""

    fit: Fit
    params: dict[str, Array]
    """Name -> (draws,)."""
    method: str
    """`by run` or `wild`."""
    seed: int

    def derived(self) -> dict[str, Array]:
        """The parameters and, where the law has N and D, a and b."""
        if not self.fit.form.splits_compute:
            return self.params
        a, b = self.fit.form.share(self.params)
        return {**self.params, "a": np.asarray(a), "b": np.asarray(b)}

    def intervals(self, level: float = LEVEL) -> dict[str, tuple[float, float]]:
        """Percentile intervals of the parameters, a and b."""
        return {name: interval(values, level) for name, values in self.derived().items()}

    def curve(self, axes: Mapping[str, ArrayLike]) -> Array:
        """(draws, ...): the law of every draw at values of its axes."""
        known = {name: np.asarray(axes[name], float) for name in self.fit.form.axes}
        dims = np.broadcast(*known.values()).ndim
        params = {name: values.reshape(-1, *[1] * dims) for name, values in self.params.items()}
        return self.fit.form.predict(params, known)

    def band(self, axes: Mapping[str, ArrayLike], level: float = LEVEL) -> tuple[Array, Array]:
        """Lower and upper ends of the law's interval at values of its axes."""
        low, high = np.quantile(self.curve(axes), [(1 - level) / 2, (1 + level) / 2], axis=0)
        return low, high

    def new_runs(self, axes: Mapping[str, ArrayLike]) -> Array:
        """(draws, ...): what a new run may measure, which is the law of every draw plus a residual of the fit.

        Residuals are widened by sqrt(points / (points - parameters)), because the law was fitted to them.
        """
        curve = self.curve(axes)
        rng = np.random.default_rng([self.seed, 1])
        wider = self.fit.residuals * np.sqrt(len(self.fit.residuals) / self.fit.freedom)
        noise = rng.choice(wider, curve.shape)
        return curve + noise if self.fit.measure.raw else curve * np.exp(noise)


def interval(draws: Array, level: float = LEVEL) -> tuple[float, float]:
    """The percentile interval of draws, (draws,)."""
    low, high = np.quantile(draws, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def bootstrap(fit: Fit, *, draws: int, seed: int) -> Draws:
    """Refits the law to `draws` copies of its runs. The same fit and seed give the same draws."""
    rng = np.random.default_rng(seed)
    many_runs = len(set(fit.points.runs)) >= ENOUGH_RUNS
    metric, weights = _by_run(fit, draws, rng) if many_runs else _wild(fit, draws, rng)
    starts = np.stack([optimum.theta for optimum in fit.optima[:2]])
    thetas, _ = fit.problem.copies(metric, weights, starts)
    if many_runs:
        thetas = _spread(fit, thetas)
    return Draws(fit, natural(fit.problem, thetas), "by run" if many_runs else "wild", seed)


def _by_run(fit: Fit, draws: int, rng: np.random.Generator) -> tuple[Array, Array]:
    """(draws, points) twice: the metric as it is, weighted by how often each run was drawn."""
    run_of = fit.points.clusters
    runs = run_of.max() + 1
    times = rng.multinomial(runs, np.full(runs, 1 / runs), draws)
    weights = times[:, run_of] * fit.points.weights
    return np.broadcast_to(fit.points.metric, weights.shape), weights


def _spread(fit: Fit, thetas: Array) -> Array:
    """Draws moved away from the fit by sqrt(runs / (runs - parameters)), the parameters having been fitted to the runs
    that are drawn. The half-life stays, because it is bound to its grid."""
    design = fit.problem.design()
    runs, count = len(set(fit.points.runs)), design.slopes.shape[2]
    wider = np.sqrt(runs / (runs - len(fit.form.free)))
    best = fit.optima[0].theta[:count]
    moved = np.clip(best + (thetas[:, :count] - best) * wider, design.low, design.high)
    return np.column_stack([moved, thetas[:, count:]])


def _wild(fit: Fit, draws: int, rng: np.random.Generator) -> tuple[Array, Array]:
    """(draws, points) twice: the fitted metric with every residual's sign drawn anew, one sign per run.

    Residuals are divided by 1 - leverage, as in the jackknife (HC3, MacKinnon and White 1985): a point that pulls the
    law to itself has a small residual because of that. Without the division 90 % intervals held in 67 to 74 % of sweeps
    of nine runs.
    """
    run_of = fit.points.clusters
    signs = rng.choice([-1.0, 1.0], (draws, run_of.max() + 1))[:, run_of]
    noise = signs * fit.residuals / np.maximum(1 - _leverage(fit), LEAST_FREE_SHARE)
    fitted = fit.predict(fit.points.axes)
    metric = np.maximum(fitted + noise, 1e-3 * fitted) if fit.measure.raw else fitted * np.exp(noise)
    return metric, np.broadcast_to(fit.points.weights, metric.shape)


def _leverage(fit: Fit) -> Array:
    """(points,), the leverages: how far each point pulls its own fitted value."""
    theta = fit.optima[0].theta
    design = fit.problem.design(float(theta[-1]) if fit.form.repeats else None)
    jacobian = design.jacobian(theta[None, : design.slopes.shape[2]])[0]
    free = [i for i in range(jacobian.shape[1]) if fit.form.names[i] in fit.form.free]
    scale = fit.predict(fit.points.axes) if fit.measure.raw else 1.0
    rows = jacobian[:, free] * (np.sqrt(fit.points.weights) * scale)[:, None]
    q, _ = np.linalg.qr(rows / np.linalg.norm(rows, axis=0))
    return np.asarray(np.square(q).sum(axis=1))
