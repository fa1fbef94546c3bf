"""Figures of a forecast for reports. Each function draws values that others computed, and computes none."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure

from analysis.figures.style import (
    INK,
    MEASURED,
    PREDICTED,
    SIZE_TICKS,
    SIZES,
    count,
    dots,
    flops_text,
    framed,
    log_axes,
    size_bar,
    ticks,
)
from analysis.forecast.forecast import Comparison, Forecast
from analysis.laws.isoflop import Frontier


def scaling_figure(
    table: pd.DataFrame, forecast: Forecast, comparison: Comparison | None, computes: Mapping[str, float]
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


def isoflop_figure(table: pd.DataFrame, frontier: Frontier, forecast: Forecast) -> Figure:
    """Validation loss against model size, one parabola per budget, its minimum, and the forecast's path of best sizes.

    table: the runs that the frontier and the forecast were made from.
    """
    with framed(5.6, 3.9) as (figure, (axes,)):
        colours = sns.color_palette("flare", len(frontier.optima))
        for optimum, colour in zip(frontier.optima, colours, strict=True):
            runs = table[table["flop_budget"] == optimum.flop_budget]
            label = f"C = {flops_text(optimum.flop_budget)}"
            axes.scatter(runs["n_params"], runs["val_loss"], color=colour, label=label, **dots(30))
            if not optimum.refusal:
                log_n = np.linspace(np.log(optimum.span[0]), np.log(optimum.span[1]), 100)
                axes.plot(np.exp(log_n), np.polyval(optimum.parabola, log_n), color=colour, lw=1.4)
        for refused, marker, label in ((False, "D", "minimum"), (True, "s", "best run; no minimum inside")):
            optima = [optimum for optimum in frontier.optima if bool(optimum.refusal) == refused]
            if optima:
                sizes, losses = [optimum.n_params for optimum in optima], [optimum.val_loss for optimum in optima]
                axes.plot(sizes, losses, marker, ms=7, mfc="none", color=INK, mew=1.3, zorder=4, label=label)
        path = rf"forecast: best $N \propto C^{{{forecast.a:.2f}}}$"
        axes.plot(forecast.band.n_params, forecast.band.val_loss, color=PREDICTED, lw=1, ls="--", label=path, zorder=2)
        axes.plot(forecast.n_params, forecast.val_loss, "D", ms=6, mfc="white", color=PREDICTED, zorder=4)
        log_axes(axes, "parameters N", "validation loss")
        ticks(axes.xaxis, SIZE_TICKS, count)
        axes.legend(loc="center left", bbox_to_anchor=(1, 0.5), frameon=False)
        return figure


def _mark_computes(axes: Axes, computes: Mapping[str, float]) -> None:
    """Labels along the top, each with a faint line down to its runs."""
    top = axes.secondary_xaxis("top")
    top.set_xticks(list(computes.values()), list(computes))
    top.minorticks_off()
    top.spines["top"].set_visible(False)
    for flops in computes.values():
        axes.axvline(flops, color=INK, lw=0.6, ls=":", zorder=0)
