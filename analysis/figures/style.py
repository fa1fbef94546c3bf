"""The common look of all figures: colors, axes and ticks; and files that are equal byte for byte when drawn again."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.cm import ScalarMappable
from matplotlib.colors import ListedColormap, LogNorm
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter
from numpy.typing import NDArray

from scaling.core.errors import UserError
from scaling.core.store import replacing

SIZES = ListedColormap(matplotlib.colormaps["viridis"](np.linspace(0, 0.88, 256)))
"""Colors of model size in every figure; without the last yellows of viridis, which are invisible on white paper."""
INK, PREDICTED, MEASURED = "#22303c", "#c2410c", "#1d4ed8"
"""Colors of lines and text, of the forecast, and of later measurements. The contrast with white is at least 4.5:1."""
DPI = 160
LOSS_TICKS, SIZE_TICKS = (1, 1.5, 2, 3, 4, 5, 7), (1, 2, 5)
"""A loss rarely spans a decade: powers of ten alone would leave an axis one tick."""


def save_figure(figure: Figure, path: Path) -> None:
    """Writes a figure to a file. The same values give the same bytes. Raises UserError for an unknown suffix."""
    kind = path.suffix.lower()[1:]
    if kind not in ("png", "svg", "pdf"):
        raise UserError(f"{path}: cannot draw '{path.suffix}'; give .png, .svg or .pdf")
    undated = {"png": {}, "svg": {"Date": None}, "pdf": {"CreationDate": None}}[kind]
    with matplotlib.rc_context({"svg.hashsalt": "scaling"}), replacing(path) as tmp:
        figure.savefig(tmp, format=kind, dpi=DPI, metadata=undated)


@contextmanager
def framed(width: float, height: float, columns: int = 1) -> Iterator[tuple[Figure, list[Axes]]]:
    """A figure of these inches and its axes side by side in the common style, without pyplot's global state."""
    style = {"axes.edgecolor": INK, "axes.labelcolor": INK, "text.color": INK, "xtick.color": INK, "ytick.color": INK}
    with sns.plotting_context("paper"), sns.axes_style("ticks", style):
        figure = Figure((width, height), layout="constrained")
        yield figure, list(figure.subplots(1, columns, squeeze=False)[0])
        sns.despine(figure)


def dots(area: float) -> dict[str, Any]:
    return {"s": area, "edgecolor": "white", "linewidth": 0.5, "zorder": 3}


def log_axes(axes: Axes, x: str, y: str) -> None:
    axes.set(xscale="log", yscale="log", xlabel=x, ylabel=y)
    axes.grid(True, which="major", color="#e5e7eb", lw=0.6)
    axes.set_axisbelow(True)
    ticks(axes.yaxis, LOSS_TICKS, number)


def ticks(axis: Axis, steps: tuple[float, ...], text: Callable[[float, object], str]) -> None:
    """Ticks at these multiples of powers of ten, none unlabeled."""
    axis.set_major_locator(LogLocator(subs=steps))
    axis.set_major_formatter(FuncFormatter(text))
    axis.set_minor_formatter(NullFormatter())


def size_bar(figure: Figure, axes: Axes, norm: LogNorm, label: str = "parameters N") -> None:
    bar = figure.colorbar(ScalarMappable(norm, SIZES), ax=axes, label=label, pad=0.02)
    bar.ax.minorticks_off()
    ticks(bar.ax.yaxis, size_steps(np.array(bar.ax.get_ylim())), count)


def size_steps(values: NDArray[np.float64]) -> tuple[float, ...]:
    """Steps of ticks that leave room for their labels."""
    return SIZE_TICKS if values.max() / values.min() < 100 else (1,)


def number(value: float, _: object) -> str:
    return f"{value:g}"


def count(value: float, _: object) -> str:
    """1300000 -> 1.3M."""
    if value >= 1e15:
        return flops_text(value)
    for unit, name in ((1e12, "T"), (1e9, "B"), (1e6, "M"), (1e3, "k")):
        if value >= unit:
            return f"{value / unit:.3g}{name}"
    return f"{value:g}"


def flops_text(value: float) -> str:
    exponent = int(np.floor(np.log10(value) + 1e-9))
    return rf"${value / 10**exponent:.1f}\times10^{{{exponent}}}$"
