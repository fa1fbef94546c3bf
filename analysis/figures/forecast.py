"""Figures of a forecast for reports: loss against compute, and the isoFLOP figure of its runs."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure

from analysis.figures.isoflop import BudgetCurve, Minima, SizePath, isoflop_figure
from analysis.figures.style import INK, MEASURED, PREDICTED, SIZES, dots, framed, log_axes, size_bar
from analysis.forecast.record import Forecast, ForecastComparison
from analysis.laws.isoflop import BudgetOptimum, Frontier, IsoflopRuns


def scaling_figure(
    table: pd.DataFrame, forecast: Forecast, comparison: ForecastComparison | None, computes: Mapping[str, float]
) -> Figure:
    """Validation loss against training compute: runs, forecast band, predicted and measured point.

    table: `scaling.core.records.training_table`. computes: FLOPs of each labelled compute, such as {"base": 3e12}.
    """
    with framed(5.8, 3.9) as (figure, (axes,)):
        runs = table.dropna(subset=["val_loss", "train_flops", "n_params"])
        norm = LogNorm(runs["n_params"].min(), runs["n_params"].max())
        band, low, high = forecast.band, forecast.val_loss - forecast.low, forecast.high - forecast.val_loss
        axes.fill_between(band.flops, band.low, band.high, color=PREDICTED, alpha=0.14, lw=0)
        axes.plot(band.flops, band.val_loss, color=PREDICTED, lw=1.4, label=f"best N, {forecast.level:.0%} of new runs")
        axes.scatter(runs["train_flops"], runs["val_loss"], c=runs["n_params"], cmap=SIZES, norm=norm, **dots(30))
        text = f"predicted {forecast.val_loss:.3f} [{forecast.low:.3f}, {forecast.high:.3f}]"
        bar: dict[str, Any] = {"fmt": "D", "ms": 6, "mfc": "white", "color": PREDICTED, "capsize": 4, "zorder": 4}
        axes.errorbar([forecast.target_flops], [forecast.val_loss], yerr=[[low], [high]], label=text, **bar)
        if comparison is not None:
            side = "low" if comparison.relative_error < 0 else "high"
            text = f"measured {comparison.measured:.3f} (prediction {abs(comparison.relative_error):.1%} {side})"
            star: dict[str, Any] = {
                "marker": "*",
                "ms": 13,
                "color": MEASURED,
                "mec": "white",
                "zorder": 5,
                "ls": "none",
            }
            axes.plot([comparison.train_flops], [comparison.measured], label=text, **star)
        log_axes(axes, "training compute C (FLOPs)", "validation loss")
        _mark_computes(axes, computes)
        size_bar(figure, axes, norm)
        axes.legend(loc="upper right", framealpha=0.9, edgecolor="none")
        return figure


def forecast_isoflop_figure(runs: IsoflopRuns, frontier: Frontier, forecast: Forecast) -> Figure:
    """Validation loss against model size, one parabola per budget, its minimum, and the forecast's path of best sizes.

    runs: those that the frontier and the forecast were made from.
    """
    curves = [_parabola(runs.take(runs.flop_budgets == optimum.flop_budget), optimum) for optimum in frontier.optima]
    minima = []
    for refused, marker, label in ((False, "D", "minimum"), (True, "s", "best run; no minimum inside")):
        optima = [optimum for optimum in frontier.optima if bool(optimum.refusal) == refused]
        sizes, losses = [optimum.n_params for optimum in optima], [optimum.val_loss for optimum in optima]
        minima.append(Minima(label, sizes, losses, marker))
    label = rf"forecast: best $N \propto C^{{{forecast.a:.2f}}}$"
    path = SizePath(label, forecast.band.n_params, forecast.band.val_loss)
    return isoflop_figure(curves, minima, "validation loss", path=path)


def _parabola(runs: IsoflopRuns, optimum: BudgetOptimum) -> BudgetCurve:
    """The runs of a budget with their parabola, where it was not refused."""
    smallest, largest = optimum.span
    log_n = np.linspace(np.log(smallest), np.log(largest), 0 if optimum.refusal else 100)
    line = np.asarray(np.polyval(optimum.parabola, log_n), float)
    return BudgetCurve(optimum.flop_budget, runs.n_params, runs.metric, np.exp(log_n), line)


def _mark_computes(axes: Axes, computes: Mapping[str, float]) -> None:
    """Labels along the top, each with a faint line down to its runs."""
    top = axes.secondary_xaxis("top")
    top.set_xticks(list(computes.values()), list(computes))
    top.minorticks_off()
    top.spines["top"].set_visible(False)
    for flops in computes.values():
        axes.axvline(flops, color=INK, lw=0.6, ls=":", zorder=0)
