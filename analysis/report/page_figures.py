"""The figures of the reviewers' page, drawn from the table of runs, the forecast on record, and tuning's trials."""

from collections.abc import Mapping
from pathlib import Path

import pandas as pd

from analysis.figures.forecast import forecast_isoflop_figure, scaling_figure
from analysis.figures.style import save_figure
from analysis.figures.tuning import tuning_figure
from analysis.forecast.record import Forecast, ForecastComparison
from analysis.laws.isoflop import fit_frontier, isoflop_runs
from analysis.report.data import PageFigure
from analysis.tables.read import table_of_runs
from scaling.core.records import Tuning

SCALING = "loss-against-compute.svg"


def draw_figures(
    folder: Path,
    table: pd.DataFrame,
    forecast: Forecast,
    comparison: ForecastComparison | None,
    computes: Mapping[str, float],
) -> tuple[PageFigure, ...]:
    """Draws loss against compute, and the isoFLOP figure of the runs that the forecast was made from, as SVG.

    table: `scaling.core.records.training_table`. computes: training FLOPs of each labelled compute.
    Raises UserError where the runs of the forecast are not in the table.
    """
    loss, isoflop = folder / SCALING, folder / "isoflop.svg"
    scaling = scaling_figure(table, forecast, comparison, computes)
    for path in (loss, loss.with_suffix(".png")):
        save_figure(scaling, path)
    runs = isoflop_runs(table_of_runs(table[table["run_id"].isin(forecast.run_ids)]))
    save_figure(forecast_isoflop_figure(runs, fit_frontier(runs), forecast), isoflop)
    return (
        PageFigure(
            title="Loss against compute.",
            caption="Dots are runs, colored by size. The band was drawn from the smaller runs alone; the star was "
            "measured afterwards.",
            path=loss,
        ),
        PageFigure(
            title="Which size is best at each compute.",
            caption="Each curve holds compute fixed and varies the size of the model; the minimum moves right as "
            "compute grows. The dashed line is the forecast's path of best sizes, the diamond its end at the target.",
            path=isoflop,
        ),
    )


def draw_tuning(folder: Path, tuning: Tuning) -> PageFigure:
    """Draws the trials as SVG, and says in words what was chosen."""
    path, chosen, section = folder / "tuning.svg", tuning.chosen, tuning.asked
    save_figure(tuning_figure(tuning), path)
    diverged = sum(trial.val_loss is None for trial in tuning.trials)
    compute = "the base compute" if section["multiple"] == 1 else f"{section['multiple']} times the base compute"
    rates = ", ".join(f"{name} {rate:g}" for name, rate in chosen.rates.items())
    return PageFigure(
        title=f"{rates}.",
        caption=f"The lowest loss ({chosen.val_loss:.4f}) of {len(tuning.trials)} trials of {section['size']} at "
        + compute
        + (f", of which {diverged} diverged" if diverged else "")
        + "; every run below was trained at these rates, and no trial is in the law.",
        path=path,
    )
