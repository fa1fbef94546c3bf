"""The figures of the reviewers' page, drawn from the table of runs, the forecast on record, and tuning's trials."""

from collections.abc import Mapping
from pathlib import Path

import pandas as pd

from analysis.figures.forecast import isoflop_figure, scaling_figure
from analysis.figures.style import save_one
from analysis.figures.tuning import tuning_figure
from analysis.forecast.forecast import Comparison, Forecast
from analysis.laws.isoflop import fit_frontier
from analysis.report.data import Figure
from scaling.core.records import Tuning

SCALING = "loss-against-compute.svg"


def draw_figures(
    folder: Path,
    table: pd.DataFrame,
    forecast: Forecast,
    comparison: Comparison | None,
    computes: Mapping[str, float],
) -> tuple[Figure, ...]:
    """Draws loss against compute, and the isoFLOP valleys of the runs that the forecast was made from, as SVG.

    table: `scaling.core.records.training_table`. computes: training FLOPs of each labelled compute.
    Raises UserError where the runs of the forecast are not in the table.
    """
    loss, valleys = folder / SCALING, folder / "isoflop.svg"
    scaling = scaling_figure(table, forecast, comparison, computes)
    for path in (loss, loss.with_suffix(".png")):
        save_one(scaling, path)
    seen = table[table["run_id"].isin(forecast.run_ids)]
    save_one(isoflop_figure(seen, fit_frontier(seen), forecast), valleys)
    return (
        Figure(
            title="Loss against compute.",
            caption="Dots are runs, coloured by size. The band was drawn from the smaller runs alone; the star was "
            "measured afterwards.",
            path=loss,
        ),
        Figure(
            title="Which size is best at each compute.",
            caption="Each curve holds compute fixed and varies the size of the model; the minimum moves right as "
            "compute grows. The dashed line is the forecast's path of best sizes, the diamond its end at the target.",
            path=valleys,
        ),
    )


def draw_tuning(folder: Path, tuning: Tuning) -> Figure:
    """Draws the trials as SVG, and says in words what was chosen."""
    path, chosen, asked = folder / "tuning.svg", tuning.chosen, tuning.asked
    save_one(tuning_figure(tuning), path)
    diverged = sum(trial.val_loss is None for trial in tuning.trials)
    compute = "the base compute" if asked["multiple"] == 1 else f"{asked['multiple']} times the base compute"
    rates = ", ".join(f"{name} {rate:g}" for name, rate in chosen.rates.items())
    return Figure(
        title=f"{rates}.",
        caption=f"The lowest loss ({chosen.val_loss:.4f}) of {len(tuning.trials)} trials of {asked['size']} at "
        + compute
        + (f", of which {diverged} diverged" if diverged else "")
        + "; every run below was trained at these rates, and no trial is in the law.",
        path=path,
    )
