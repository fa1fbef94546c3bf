"""The figure of a sweep's trials: the learning rates that were tried, their losses, and the rates that were chosen."""

from typing import Any

import numpy as np
from matplotlib.figure import Figure

from analysis.figures.style import INK, MEASURED, SIZES, dots, framed
from scaling.core.records import Trial, Tuning

NAMES = {"muon_lr": "Muon's learning rate", "adamw_lr": "AdamW's learning rate"}
CHOSEN_MARKER: dict[str, Any] = {"marker": "o", "ms": 13, "mfc": "none", "mec": MEASURED, "mew": 1.6, "ls": "none"}
DIVERGED_MARKER: dict[str, Any] = {
    "marker": "x",
    "ms": 7,
    "color": "#b91c1c",
    "mew": 1.6,
    "ls": "none",
    "clip_on": False,
}


def tuning_figure(tuning: Tuning) -> Figure:
    """Loss against the rate where one was tuned; where two were, the loss as color and number over both."""
    chosen, rates = tuning.chosen, list(tuning.chosen.rates)
    measured = [trial for trial in tuning.trials if trial.val_loss is not None]
    diverged = [trial for trial in tuning.trials if trial.val_loss is None]
    losses = np.array([trial.val_loss for trial in measured], float)
    with framed(5.8, 3.9) as (figure, (axes,)):
        axes.set(xscale="log", xlabel=NAMES[rates[0]])
        if len(rates) == 1:
            axes.scatter(_values(measured, rates[0]), losses, color=INK, **dots(30))
            axes.set(ylabel="validation loss")
            chosen_y, diverged_y = np.array([chosen.val_loss], float), np.full(len(diverged), axes.get_ylim()[1])
        else:
            x, y = (_values(measured, name) for name in rates)
            shown = axes.scatter(x, y, c=losses, cmap=SIZES, **dots(60))
            for loss, *point in zip(losses, x, y, strict=True):
                label_style: dict[str, Any] = {
                    "xytext": (0, 9),
                    "textcoords": "offset points",
                    "ha": "center",
                    "fontsize": 7,
                }
                axes.annotate(f"{loss:.4f}", tuple(point), **label_style)
            axes.set(yscale="log", ylabel=NAMES[rates[1]])
            axes.margins(0.12)
            figure.colorbar(shown, ax=axes, label="validation loss", pad=0.02)
            chosen_y, diverged_y = _values([chosen], rates[1]), _values(diverged, rates[1])
        axes.plot(_values([chosen], rates[0]), chosen_y, label="chosen", **CHOSEN_MARKER)
        if diverged:
            axes.plot(_values(diverged, rates[0]), diverged_y, label="diverged", **DIVERGED_MARKER)
        axes.grid(True, which="major", color="#e5e7eb", lw=0.6)
        axes.set_axisbelow(True)
        axes.legend(loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=2, frameon=False)
        return figure


def _values(trials: list[Trial], name: str) -> np.ndarray:
    return np.array([trial.rates[name] for trial in trials], float)
