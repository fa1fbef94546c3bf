"""The figure of an estimate: inference compute per output of four kinds of models."""

from collections.abc import Mapping

import seaborn as sns
from matplotlib.figure import Figure

from analysis.estimate.sora import OUTPUTS
from analysis.estimate.worksheet import EstimateStep
from analysis.figures.style import PREDICTED, framed


def outputs_figure(results: Mapping[str, EstimateStep]) -> Figure:
    """One dot for each model, on a log scale, on which bars would have no zero to start at; a whisker from low to high
    where the assumptions are ranges.

    results: `analysis.estimate.sora.estimate`.
    """
    shown = [results[name] for name, _ in OUTPUTS.values()]
    names = [f"{model}\n{output}" for model, (_, output) in OUTPUTS.items()]
    with framed(5.8, 2.6) as (figure, (axes,)):
        sns.stripplot(
            x=[step.value for step in shown], y=names, ax=axes, color=PREDICTED, size=8, jitter=False, zorder=3
        )
        for row, step in enumerate(shown):
            axes.plot([step.low, step.high], [row, row], color=PREDICTED, lw=1.6)
            mantissa, exponent = f"{step.value:.2e}".split("e")
            label = rf"${mantissa}\times10^{{{int(exponent)}}}$"
            axes.annotate(label, (step.value, row), xytext=(0, 7), textcoords="offset points", ha="center")
        axes.set(xscale="log", xlabel="inference compute of one output (FLOP)", ylabel="")
        axes.margins(x=0.12)
        axes.set_ylim(len(shown) - 0.6, -0.7)
        axes.grid(True, axis="x", which="major", color="#e5e7eb", lw=0.6)
        axes.set_axisbelow(True)
        axes.tick_params(axis="y", length=0)
        axes.minorticks_off()
    return figure
