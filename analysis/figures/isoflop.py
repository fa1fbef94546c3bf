"""The isoFLOP figure: the metric against N, a curve for each compute budget, and the best size of each.

The curves come from a law fitted to all runs (`analysis.figures.laws`) or from the parabola of each budget
(`analysis.figures.forecast`); this file draws either.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import seaborn as sns
from matplotlib.figure import Figure

from analysis.figures.style import INK, PREDICTED, SIZE_TICKS, count, dots, flops_text, framed, log_axes, ticks
from analysis.tables.arrays import Array


@dataclass(frozen=True, eq=False)
class BudgetCurve:
    """The runs of one compute budget and the curve through them."""

    flops: float
    n_params: Array
    """(runs,)"""
    metric: Array
    """(runs,)"""
    line_n_params: Array
    """(line,); empty where there is no curve."""
    line_metric: Array


@dataclass(frozen=True)
class Minima:
    """Best sizes of budgets, drawn with one kind of mark."""

    label: str
    n_params: Sequence[float]
    metric: Sequence[float]
    marker: str = "D"


@dataclass(frozen=True, eq=False)
class SizePath:
    """The best sizes that a forecast expects at rising compute, drawn as a line with a mark at its end."""

    label: str
    n_params: Sequence[float]
    metric: Sequence[float]


def isoflop_figure(
    curves: Sequence[BudgetCurve],
    minima: Sequence[Minima],
    metric_name: str,
    *,
    path: SizePath | None = None,
    size_ticks: tuple[float, ...] = SIZE_TICKS,
) -> Figure:
    """Runs, curves and minima of every budget, and a path of best sizes where there is one."""
    with framed(5.6, 3.9) as (figure, (axes,)):
        colors = sns.color_palette("flare", len(curves))
        for curve, color in zip(curves, colors, strict=True):
            label = f"C = {flops_text(curve.flops)}"
            axes.scatter(curve.n_params, curve.metric, color=color, label=label, **dots(30))
            axes.plot(curve.line_n_params, curve.line_metric, color=color, lw=1.4)
        for marks in minima:
            if len(marks.n_params):
                marker_style: dict[str, Any] = {"ms": 7, "mfc": "none", "color": INK, "mew": 1.3, "zorder": 4}
                axes.plot(marks.n_params, marks.metric, marks.marker, label=marks.label, **marker_style)
        if path is not None:
            axes.plot(path.n_params, path.metric, color=PREDICTED, lw=1, ls="--", label=path.label, zorder=2)
            axes.plot(path.n_params[-1], path.metric[-1], "D", ms=6, mfc="white", color=PREDICTED, zorder=4)
        log_axes(axes, "parameters N", metric_name)
        ticks(axes.xaxis, size_ticks, count)
        axes.legend(loc="center left", bbox_to_anchor=(1, 0.5), frameon=False)
        return figure
