"""The assessment of one form on one table: the fit, its intervals, how other choices move it, and how well it
extrapolates."""

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from analysis.laws.bootstrap import ENOUGH_RUNS, LEVEL, Draws, bootstrap
from analysis.laws.fit import Fit, fit_law
from analysis.laws.forms import C_AXIS, D_AXIS, N_AXIS, Form, law
from analysis.laws.newton import Objective
from analysis.laws.noise import Noise, noise_weights, run_noise
from analysis.laws.points import Points, points
from analysis.laws.sensitivity import FitVariant, sensitivity
from analysis.laws.validation import HeldOutError, Holdout, compare_forms, expanding_windows
from analysis.tables.table import Table
from scaling.core.errors import UserError

RIVALS = {
    "chinchilla": ("chinchilla-no-floor", "shared", "kaplan"),
    "power-floor": ("power",),
}
"""The other forms, with as many parameters or fewer, that a form is compared with by held-out error."""
WIDE = 0.5
"""An exponent whose interval is wider than this share of it gets a warning: what follows from it is a guess."""
LINEAR = 0.2
"""Share of residuals beyond delta above which a Huber loss is no longer like least squares. With few runs it then
passes through some of them exactly, and 90 % intervals held in 74 to 87 % of simulated sweeps (docs/laws.md)."""
BETTER = 0.9
"""A form gets a mention where its rms error on larger budgets is below this share of the fitted form's."""


@dataclass(frozen=True, eq=False)
class Assessment:
    """The fit of one form to one table, and the evidence for and against it."""

    table: Table
    metric: str
    fit: Fit
    draws: Draws | None
    """None where no intervals were asked for."""
    noise: Noise | None
    """None where the runs were not weighted by inverse variance."""
    sensitivity: tuple[FitVariant, ...]
    holdouts: tuple[Holdout, ...]
    comparison: tuple[HeldOutError, ...]

    @property
    def intervals(self) -> dict[str, tuple[float, float]]:
        return self.draws.intervals() if self.draws else {}

    @property
    def warnings(self) -> tuple[str, ...]:
        """What an analyst should know before using the law."""
        warnings = [self.fit.reason] if self.fit.reason else []
        precisions = self.table.runs["precision"].dropna().unique() if "precision" in self.table.runs else ()
        if len(precisions) > 1:
            warnings.append(
                f"runs in {' and '.join(sorted(map(str, precisions)))} are mixed, whose losses differ by rounding; "
                "--where precision=... keeps one of them"
            )
        for name in self.fit.form.exponents:
            low, high = self.intervals.get(name, (0.0, 0.0))
            if high - low > WIDE * self.fit.params[name]:
                warnings.append(f"the runs say little about {name}: {LEVEL:.0%} [{low:.3g}, {high:.3g}]")
        fit, few_runs = self.fit, self.draws is not None and len(set(self.fit.points.runs)) < ENOUGH_RUNS
        if few_runs and not fit.measure.raw and np.mean(np.abs(fit.residuals) > fit.measure.delta) > LINEAR:
            warnings.append(
                f"a Huber loss of delta {fit.measure.delta:g} on few runs: intervals are too narrow; try delta inf"
            )
        fitted = next((error for error in self.comparison if error.law == fit.form.name), None)
        if fitted and (best := self.comparison[0]).rms < BETTER * fitted.rms:
            warnings.append(
                f"{best.law} predicts larger budgets better: rms error {best.rms:.2%} against {fitted.rms:.2%}"
            )
        return tuple(warnings)

    def to_document(self) -> dict[str, Any]:
        """Plain JSON values."""
        fit = self.fit
        return {
            "law": fit.form.name,
            "formula": fit.form.formula,
            "source": fit.form.source,
            "params": fit.params,
            "a": fit.a,
            "b": fit.b,
            "objective": fit.objective,
            "loss": "squared" if fit.measure.raw else "huber of log residuals",
            "delta": fit.measure.delta if np.isfinite(fit.measure.delta) else None,
            "status": fit.status,
            "reason": fit.reason,
            "warnings": list(self.warnings),
            "n_points": len(fit.points),
            "n_runs": len(set(fit.points.runs)),
            "excluded": [asdict(run) for run in self.table.excluded],
            "level": LEVEL,
            "intervals": {name: list(pair) for name, pair in self.intervals.items()},
            "bootstrap": {"method": self.draws.method, "draws": len(self.draws.params[fit.form.names[0]]),
                          "seed": self.draws.seed} if self.draws else None,
            "metric": self.metric,
            "columns": list(self.table.column_sources),
            "notes": list(self.table.notes),
            "noise": asdict(self.noise) if self.noise else None,
            "runs": list(fit.points.runs),
            "residuals": fit.residuals.tolist(),
            "sensitivity": [asdict(variant) for variant in self.sensitivity],
            "holdouts": [asdict(holdout) for holdout in self.holdouts],
            "comparison": [asdict(error) for error in self.comparison],
        }  # fmt: skip


def assess(
    table: Table,
    form: Form,
    measure: Objective | None = None,
    *,
    metric: str,
    draws: int,
    seed: int,
    inverse_variance: bool = False,
    compute_weight: float = 0.0,
) -> Assessment:
    """Fits a form to a column of a table.

    measure: `usual_objective` by default. draws: of the bootstrap; 0 for no intervals. inverse_variance: weight
    the runs by it, known from runs repeated with other seeds and from standard errors. compute_weight: weights grow as
    this power of compute, or of the axis of a law with one axis.
    Raises UserError where the table lacks what the form needs.
    """
    try:
        fit_points, noise = table_points(table, form, metric, inverse_variance=inverse_variance)
        if compute_weight:
            axis = C_AXIS if form.splits_compute else form.axes[0]
            if axis not in fit_points.axes:
                raise UserError(
                    f"--compute-weight needs a positive {axis} in every run; give it, or leave the weight out"
                )
            fit_points = fit_points.weighted_by(axis, compute_weight)
        measure = measure or usual_objective(fit_points)
        fit = fit_law(fit_points, form, measure)
        ordered = C_AXIS in fit_points.axes
        rivals = [form, *(law(name, form.axes[0]) for name in RIVALS.get(form.name, ()))]
        return Assessment(
            table=table,
            metric=metric,
            fit=fit,
            draws=bootstrap(fit, draws=draws, seed=seed) if draws else None,
            noise=noise,
            sensitivity=sensitivity(fit),
            holdouts=expanding_windows(fit_points, form, measure, seed=seed) if ordered and draws else (),
            comparison=compare_forms(fit_points, rivals, measure) if ordered and len(rivals) > 1 else (),
        )
    except UserError as problem:
        raise named_after(table, problem) from None


def named_after(table: Table, problem: UserError) -> UserError:
    """The problem with the table's path before it."""
    return UserError(f"{table.path}: {str(problem).removeprefix(f'{table.path}: ')}")


def usual_objective(fit_points: Points) -> Objective:
    """The Huber loss of log residuals with delta 1e-3, as for language models, from ENOUGH_RUNS runs on; of fewer,
    least squares: such a Huber loss passes through some of them exactly, and its intervals are too narrow."""
    return Objective() if len(set(fit_points.runs)) >= ENOUGH_RUNS else Objective(delta=np.inf)


def table_points(
    table: Table, form: Form, metric: str, *, inverse_variance: bool = False
) -> tuple[Points, Noise | None]:
    """The points of a form in a table, with compute and size where the table has them.

    Raises UserError where a column is missing or a value is not positive, or where runs are to be weighted by inverse
    variance and none was repeated.
    """
    axes = {name: table.axis(name) for name in form.axes}
    axes |= {name: table.axis(name) for name in (N_AXIS, D_AXIS, C_AXIS) if name in table.runs and name not in axes}
    values, names = table.axis(metric), table.run_ids
    plain = points({name: axes[name] for name in form.axes}, values, runs=names, metric_name=metric)
    extra = {name: axis for name, axis in axes.items() if np.isfinite(axis).all() and (axis > 0).all()}
    if not inverse_variance:
        return points(extra, values, runs=names), None
    errors = table.axis("loss_se") if metric == "loss" and "loss_se" in table.runs else None
    noise = run_noise(plain.axes, values, errors)
    return points(extra, values, runs=names, weights=noise_weights(noise, values, errors)), noise
