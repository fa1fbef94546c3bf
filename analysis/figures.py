"""Figures for papers and reports. Each function draws values that others computed, and computes none."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.cm import ScalarMappable
from matplotlib.colors import ListedColormap, LogNorm
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter
from numpy.typing import ArrayLike

from analysis.forecast import Comparison, Forecast
from analysis.frontier import Frontier
from analysis.law import Fit
from scaling.errors import UserError
from scaling.store import replacing

SIZES = ListedColormap(matplotlib.colormaps["viridis"](np.linspace(0, 0.88, 256)))
"""Colours of model size, everywhere the same; without viridis's last yellows, which white paper swallows."""
INK, PREDICTED, MEASURED = "#22303c", "#c2410c", "#1d4ed8"
"""Lines and text; the forecast; what was then measured. All at least 4.5:1 against white."""
DPI = 160
LOSS_TICKS, SIZE_TICKS = (1, 1.5, 2, 3, 4, 5, 7), (1, 2, 5)
"""A loss rarely spans a decade: powers of ten alone would leave an axis one tick."""


def scaling_figure(
    table: pd.DataFrame, forecast: Forecast, comparison: Comparison | None, computes: Mapping[str, float]
) -> Figure:
    """Validation loss against training compute: runs, forecast band, predicted and measured point.

    table: `scaling.records.training_table`. computes: FLOPs of each labelled compute, such as {"base": 3e12}.
    """
    with _figure(5.8, 3.9) as (figure, (axes,)):
        runs = table.dropna(subset=["val_loss", "train_flops", "n_params"])
        norm = LogNorm(runs["n_params"].min(), runs["n_params"].max())
        band, low, high = forecast.band, forecast.val_loss - forecast.low, forecast.high - forecast.val_loss
        axes.fill_between(band.flops, band.low, band.high, color=PREDICTED, alpha=0.14, lw=0)
        axes.plot(band.flops, band.val_loss, color=PREDICTED, lw=1.4, label=f"best N, {forecast.level:.0%} of new runs")
        axes.scatter(runs["train_flops"], runs["val_loss"], c=runs["n_params"], cmap=SIZES, norm=norm, **_dots(30))
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
        _log_axes(axes, "training compute C (FLOPs)", "validation loss")
        _mark_computes(axes, computes)
        _size_bar(figure, axes, norm)
        axes.legend(loc="upper right", framealpha=0.9, edgecolor="none")
        return figure


def isoflop_figure(table: pd.DataFrame, frontier: Frontier, forecast: Forecast) -> Figure:
    """Validation loss against model size, one parabola per budget, its minimum, and the forecast's path of best sizes.

    table: the runs that the frontier and the forecast were made from.
    """
    with _figure(5.6, 3.9) as (figure, (axes,)):
        colours = sns.color_palette("flare", len(frontier.optima))
        for optimum, colour in zip(frontier.optima, colours, strict=True):
            runs = table[table["flop_budget"] == optimum.flop_budget]
            label = f"C = {_flops(optimum.flop_budget)}"
            axes.scatter(runs["n_params"], runs["val_loss"], color=colour, label=label, **_dots(30))
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
        _log_axes(axes, "parameters N", "validation loss")
        _ticks(axes.xaxis, SIZE_TICKS, _count)
        axes.legend(loc="center left", bbox_to_anchor=(1, 0.5), frameon=False)
        return figure


def law_figure(fit: Fit, n_params: ArrayLike, num_tokens: ArrayLike, loss: ArrayLike) -> Figure:
    """Measured against fitted loss, and the residuals, of the data that `fit` was fitted to, in the same order."""
    with _figure(7.4, 3.3, columns=2) as (figure, (left, right)):
        N = np.asarray(n_params, float)
        fitted = fit.predict(N, num_tokens)
        norm = LogNorm(N.min(), N.max())
        ends = [fitted.min(), fitted.max()]
        left.plot(ends, ends, color=INK, lw=1, zorder=1)
        left.scatter(fitted, loss, c=N, cmap=SIZES, norm=norm, **_dots(22))
        _log_axes(left, "fitted loss", "measured loss")
        _ticks(left.xaxis, LOSS_TICKS, _number)
        right.scatter(fitted, 100 * np.array(fit.residuals), c=N, cmap=SIZES, norm=norm, **_dots(22))
        right.axhline(0, color=INK, lw=1, zorder=1)
        right.set(xscale="log", xlabel="fitted loss", ylabel="log residual (%)")
        _ticks(right.xaxis, LOSS_TICKS, _number)
        _size_bar(figure, right, norm)
        return figure


def save_one(figure: Figure, path: Path) -> None:
    """Writes one file. The same values give the same bytes. Raises UserError for an unknown suffix."""
    kind = path.suffix.lower()[1:]
    if kind not in ("png", "svg", "pdf"):
        raise UserError(f"{path}: cannot draw '{path.suffix}'; give .png, .svg or .pdf")
    undated = {"png": {}, "svg": {"Date": None}, "pdf": {"CreationDate": None}}[kind]
    with matplotlib.rc_context({"svg.hashsalt": "scaling"}), replacing(path) as tmp:
        figure.savefig(tmp, format=kind, dpi=DPI, metadata=undated)


@contextmanager
def _figure(width: float, height: float, columns: int = 1) -> Iterator[tuple[Figure, list[Axes]]]:
    """A figure of these inches and its axes side by side in the common style, without pyplot's global state."""
    style = {"axes.edgecolor": INK, "axes.labelcolor": INK, "text.color": INK, "xtick.color": INK, "ytick.color": INK}
    with sns.plotting_context("paper"), sns.axes_style("ticks", style):
        figure = Figure((width, height), layout="constrained")
        yield figure, list(figure.subplots(1, columns, squeeze=False)[0])
        sns.despine(figure)


def _dots(area: float) -> dict[str, Any]:
    return {"s": area, "edgecolor": "white", "linewidth": 0.5, "zorder": 3}


def _log_axes(axes: Axes, x: str, y: str) -> None:
    axes.set(xscale="log", yscale="log", xlabel=x, ylabel=y)
    axes.grid(True, which="major", color="#e5e7eb", lw=0.6)
    axes.set_axisbelow(True)
    _ticks(axes.yaxis, LOSS_TICKS, _number)


def _ticks(axis: Axis, steps: tuple[float, ...], text: Callable[[float, object], str]) -> None:
    """Ticks at these multiples of powers of ten, none unlabelled."""
    axis.set_major_locator(LogLocator(subs=steps))
    axis.set_major_formatter(FuncFormatter(text))
    axis.set_minor_formatter(NullFormatter())


def _size_bar(figure: Figure, axes: Axes, norm: LogNorm) -> None:
    bar = figure.colorbar(ScalarMappable(norm, SIZES), ax=axes, label="parameters N", pad=0.02)
    bar.ax.minorticks_off()
    low, high = bar.ax.get_ylim()
    _ticks(bar.ax.yaxis, SIZE_TICKS if high / low < 100 else (1,), _count)


def _mark_computes(axes: Axes, computes: Mapping[str, float]) -> None:
    """Labels along the top, each with a faint line down to its runs."""
    top = axes.secondary_xaxis("top")
    top.set_xticks(list(computes.values()), list(computes))
    top.minorticks_off()
    top.spines["top"].set_visible(False)
    for flops in computes.values():
        axes.axvline(flops, color=INK, lw=0.6, ls=":", zorder=0)


def _number(value: float, _: object) -> str:
    return f"{value:g}"


def _count(value: float, _: object) -> str:
    """1300000 -> 1.3M."""
    for unit, name in ((1e9, "B"), (1e6, "M"), (1e3, "k")):
        if value >= unit:
            return f"{value / unit:.3g}{name}"
    return f"{value:g}"


def _flops(value: float) -> str:
    exponent = int(np.floor(np.log10(value)))
    return rf"${value / 10**exponent:.1f}\times10^{{{exponent}}}$"
