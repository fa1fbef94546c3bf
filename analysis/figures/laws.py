"""Figures of the assessment of a law, for papers: the fit, how other choices move it, its errors on larger budgets."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import seaborn as sns
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from analysis.figures.isoflop import BudgetCurve, Minima, isoflop_figure
from analysis.figures.style import (
    INK,
    LOSS_TICKS,
    MEASURED,
    PREDICTED,
    SIZES,
    count,
    dots,
    framed,
    log_axes,
    number,
    save_figure,
    size_bar,
    size_steps,
    ticks,
)
from analysis.laws.assessment import Assessment
from analysis.laws.budgets import budget_numbers, is_isoflop
from analysis.laws.forms import C_AXIS, D_AXIS, N_AXIS, U_AXIS
from analysis.laws.optimal_split import best_metric, best_split, flops_per_token
from scaling.core.errors import UserError

AXIS_NAMES = {N_AXIS: "parameters N", D_AXIS: "training tokens D", C_AXIS: "training compute C (FLOPs)",
              U_AXIS: "unique tokens U", "loss": "loss L", "fvd": "FVD"}  # fmt: skip
KINDS = (".png", ".svg")


def draw_assessment(assessment: Assessment, path: Path) -> list[Path]:
    """Draws fit and residuals into a file, or into a folder every figure that the assessment has, as PNG and SVG.

    Raises UserError for a file of an unknown kind, or for a folder that cannot be written.
    """
    if path.suffix:
        save_figure(fit_figure(assessment), path)
        return [path]
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"{path}: cannot be made ({error.strerror}); choose another folder for --plot") from None
    drawn = []
    for name, draw in _figures(assessment):
        figure = draw(assessment)
        for kind in KINDS:
            drawn.append(path / f"{name}{kind}")
            save_figure(figure, drawn[-1])
    return drawn


def _figures(assessment: Assessment) -> Iterator[tuple[str, Callable[[Assessment], Figure]]]:
    yield "fit", fit_figure
    fit = assessment.fit
    if fit.form.splits_compute and fit.status != "underdetermined":
        yield "compute", compute_figure
        yield "contours", contour_figure
        if is_isoflop(fit.points.axes[C_AXIS]):
            yield "isoflop", law_isoflop_figure
    elif len(fit.form.axes) == 1:
        yield "curve", curve_figure
    if assessment.sensitivity:
        yield "sensitivity", sensitivity_figure
    if assessment.holdouts:
        yield "holdouts", holdout_figure


def fit_figure(assessment: Assessment) -> Figure:
    """Measured against fitted, and the residuals."""
    fit, points = assessment.fit, assessment.fit.points
    with framed(7.4, 3.3, columns=2) as (figure, (left, right)):
        fitted = fit.predict(points.axes)
        color = fit.form.axes[0]
        values = points.axes[color]
        norm = LogNorm(values.min(), values.max())
        color_style: dict[str, Any] = {"c": values, "cmap": SIZES, "norm": norm}
        ends = [min(fitted.min(), points.metric.min()), max(fitted.max(), points.metric.max())]
        left.plot(ends, ends, color=INK, lw=1, zorder=1)
        left.scatter(fitted, points.metric, **color_style, **dots(22))
        log_axes(left, f"fitted {assessment.metric}", f"measured {assessment.metric}")
        ticks(left.xaxis, LOSS_TICKS, number)
        share = fit.residuals / fitted if fit.measure.raw else fit.residuals
        right.scatter(fitted, 100 * share, **color_style, **dots(22))
        right.axhline(0, color=INK, lw=1, zorder=1)
        right.set(xscale="log", xlabel=f"fitted {assessment.metric}", ylabel="residual (%)")
        ticks(right.xaxis, LOSS_TICKS, number)
        size_bar(figure, right, norm, AXIS_NAMES.get(color, color))
        return figure


def compute_figure(assessment: Assessment) -> Figure:
    """The metric against compute: runs, the law's frontier, and its interval."""
    fit, points = assessment.fit, assessment.fit.points
    with framed(5.8, 3.9) as (figure, (axes,)):
        per_token = flops_per_token(fit)
        flops = np.geomspace(points.axes[C_AXIS].min(), 10 * points.axes[C_AXIS].max(), 100)
        N, D = best_split(fit.form, fit.params, flops, per_token)
        if assessment.draws:
            low, high = assessment.draws.band({N_AXIS: N, D_AXIS: D, U_AXIS: D})
            axes.fill_between(flops, low, high, color=PREDICTED, alpha=0.16, lw=0)
        axes.plot(flops, best_metric(fit.form, fit.params, flops, per_token), color=PREDICTED, lw=1.4,
                  label=rf"best $N \propto C^{{{fit.a:.3f}}}$")  # fmt: skip
        norm = LogNorm(points.axes[N_AXIS].min(), points.axes[N_AXIS].max())
        color_style: dict[str, Any] = {"c": points.axes[N_AXIS], "cmap": SIZES, "norm": norm}
        axes.scatter(points.axes[C_AXIS], points.metric, **color_style, **dots(24))
        log_axes(axes, AXIS_NAMES[C_AXIS], AXIS_NAMES.get(assessment.metric, assessment.metric))
        size_bar(figure, axes, norm)
        axes.legend(frameon=False)
        return figure


def law_isoflop_figure(assessment: Assessment) -> Figure:
    """The metric against N: runs and the law of each budget, and the law's minima."""
    fit, points = assessment.fit, assessment.fit.points
    per_token = flops_per_token(fit)
    budgets = budget_numbers(points.axes[C_AXIS])
    curves, sizes, metrics = [], [], []
    for budget in np.unique(budgets):
        rows = budgets == budget
        N, C = points.axes[N_AXIS][rows], float(np.exp(np.log(points.axes[C_AXIS][rows]).mean()))
        line = np.geomspace(N.min(), N.max(), 100)
        tokens = C / per_token(line)
        law = fit.predict({N_AXIS: line, D_AXIS: tokens, U_AXIS: tokens})
        curves.append(BudgetCurve(C, N, points.metric[rows], line, law))
        sizes.append(float(best_split(fit.form, fit.params, C, per_token)[0]))
        metrics.append(float(best_metric(fit.form, fit.params, C, per_token)))
    minima = [Minima("law's minimum", sizes, metrics)]
    name = AXIS_NAMES.get(assessment.metric, assessment.metric)
    return isoflop_figure(curves, minima, name, size_ticks=size_steps(points.axes[N_AXIS]))


def contour_figure(assessment: Assessment) -> Figure:
    """L(N, D) with the runs and the path of best N and D."""
    fit, points = assessment.fit, assessment.fit.points
    with framed(5.4, 4.2) as (figure, (axes,)):
        N, D = (points.axes[name] for name in (N_AXIS, D_AXIS))
        sizes, tokens = (np.geomspace(v.min() / 2, v.max() * 2, 120) for v in (N, D))
        surface = fit.predict({N_AXIS: sizes, D_AXIS: tokens[:, None], U_AXIS: tokens[:, None]})
        levels = np.geomspace(surface.min(), surface.max(), 14)[1:-1]
        lines = axes.contour(sizes, tokens, surface, levels=levels, colors=INK, linewidths=0.6, alpha=0.55)
        axes.clabel(lines, fmt="%.3g", fontsize=7)
        axes.scatter(N, D, c=points.metric, cmap="flare_r", norm=LogNorm(), **dots(24))
        flops = np.geomspace(points.axes[C_AXIS].min() / 100, points.axes[C_AXIS].max() * 100, 200)
        best = best_split(fit.form, fit.params, flops, flops_per_token(fit))
        axes.plot(*best, color=PREDICTED, lw=1.6, label=rf"best $N \propto C^{{{fit.a:.3f}}}$")
        axes.set(xscale="log", yscale="log", xlabel=AXIS_NAMES[N_AXIS], ylabel=AXIS_NAMES[D_AXIS],
                 xlim=(sizes[0], sizes[-1]), ylim=(tokens[0], tokens[-1]))  # fmt: skip
        for axis, values in ((axes.xaxis, sizes), (axes.yaxis, tokens)):
            ticks(axis, size_steps(values), count)
        axes.legend(loc="lower right", frameon=True, edgecolor="none")
        return figure


def curve_figure(assessment: Assessment) -> Figure:
    """A law of one axis: runs, curve and interval."""
    fit, points = assessment.fit, assessment.fit.points
    with framed(5.2, 3.6) as (figure, (axes,)):
        name = fit.form.axes[0]
        values = points.axes[name]
        line = np.geomspace(values.min(), values.max() * (1 if fit.form.terms[-1].rising else 10), 100)
        if assessment.draws:
            axes.fill_between(line, *assessment.draws.band({name: line}), color=PREDICTED, alpha=0.16, lw=0)
        axes.plot(line, fit.predict({name: line}), color=PREDICTED, lw=1.4, label=fit.form.formula)
        axes.scatter(values, points.metric, color=MEASURED, **dots(26))
        log_axes(axes, AXIS_NAMES.get(name, name), AXIS_NAMES.get(assessment.metric, assessment.metric))
        axes.legend(frameon=False)
        return figure


def sensitivity_figure(assessment: Assessment) -> Figure:
    """An exponent under every other choice, beside the fit and its interval."""
    fit = assessment.fit
    name = "a" if fit.a is not None else fit.form.exponents[0]
    chosen = fit.a if fit.a is not None else fit.params[name]
    variants = assessment.sensitivity
    with framed(5.6, 0.9 + 0.24 * len(variants)) as (figure, (axes,)):
        palette = dict(zip(("outliers", "delta", "window"), sns.color_palette("deep", 3), strict=True))
        values = [variant.a if variant.a is not None else variant.params[name] for variant in variants]
        if name in assessment.intervals:
            axes.axvspan(*assessment.intervals[name], color=PREDICTED, alpha=0.14, lw=0, label="95% interval")
        axes.axvline(chosen, color=PREDICTED, lw=1.4, label="fit")
        for i, (variant, value) in enumerate(zip(variants, values, strict=True)):
            axes.plot(value, i, "o", ms=5, color=palette[variant.choice])
        axes.set_yticks(range(len(variants)), [f"{v.choice}: {v.setting}" for v in variants])
        axes.invert_yaxis()
        axes.xaxis.set_major_locator(MaxNLocator(4))
        axes.set_xlabel("exponent a of the best N in C" if name == "a" else f"exponent {name}")
        axes.legend(loc="center left", bbox_to_anchor=(1, 0.5), frameon=False)
        return figure


def holdout_figure(assessment: Assessment) -> Figure:
    """Errors of runs predicted from smaller budgets, and the floor or first exponent as budgets are added."""
    with framed(7.4, 3.3, columns=2) as (figure, (left, right)):
        largest_flops = [holdout.up_to_flops for holdout in assessment.holdouts]
        for holdout in assessment.holdouts:
            left.plot([holdout.up_to_flops] * len(holdout.errors), [100 * e for e in holdout.errors], "o", ms=3,
                      color=MEASURED, alpha=0.25, mew=0)  # fmt: skip
        left.plot(largest_flops, [100 * holdout.bias for holdout in assessment.holdouts], "D-", ms=5, mfc="white",
                  color=PREDICTED, label="mean")  # fmt: skip
        left.axhline(0, color=INK, lw=1)
        left.set(xscale="log", xlabel="largest compute seen (FLOPs)", ylabel="log(predicted / measured) (%)")
        left.legend(frameon=False)
        drifting = "E" if "E" in assessment.fit.form.free else assessment.fit.form.exponents[0]
        right.plot(
            largest_flops,
            [holdout.params[drifting] for holdout in assessment.holdouts],
            "D-",
            ms=5,
            mfc="white",
            color=PREDICTED,
        )
        right.axhline(assessment.fit.params[drifting], color=INK, lw=1, ls="--", label="from all runs")
        right.set(xscale="log", xlabel="largest compute seen (FLOPs)", ylabel=drifting)
        right.legend(frameon=False)
        return figure
