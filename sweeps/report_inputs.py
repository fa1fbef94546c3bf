"""Collects the contents of the reviewers' page from an output folder. Trains and measures nothing.

Reads runs/<id>/ (complete stages only), tuning.json, columns.json, prediction.json and outcome.json. The page names
what is missing with a reason, except for tuning, which not every sweep has.
"""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from scaling.core.errors import UserError
from scaling.core.stage_fields import DiTFields
from scaling.core.store import read_document

if TYPE_CHECKING:
    import pandas

    from analysis.forecast.record import Forecast
    from analysis.report.data import (
        ComparisonColumn,
        LossPrediction,
        PageClip,
        PageFigure,
        Prompt,
        Recipe,
        Reconstructions,
        ReportData,
    )
    from scaling.core.records import RunRecord
    from scaling.core.stage_folder import StageFolder


def write_report(out: Path, folder: Path, commands: tuple[str, ...] = ()) -> "tuple[Path, ReportData]":
    """Writes the page of an output folder and, where there are samples, its summary overview.png beside it.

    Returns the page and what it holds. Raises what `collect` does.
    """
    from analysis.figures.style import save_figure
    from analysis.report.overview import overview_figure
    from analysis.report.page import build_report
    from analysis.report.page_figures import SCALING

    data = collect(out, commands)
    page = build_report(folder, data)
    scaling = (out / "figures" / SCALING).with_suffix(".png")
    if data.figures and any(clip.path for clip in data.clips):
        save_figure(overview_figure(data, scaling), folder / "overview.png")
    return page, data


def collect(out: Path, commands: tuple[str, ...] = ()) -> "ReportData":
    """The page's values from an output folder; `commands` are the lines that made it, for "How to reproduce".

    Raises UserError where `out` holds no runs, a document is broken, the runs are of different VAEs, or two columns
    were not sampled from the same prompts and seeds.
    """
    from analysis.report.data import ReportData
    from scaling.core.records import read_records, training_table

    records = _runs_of_the_sweep(out, {record.run_id: record for record in read_records(out / "runs")})
    table = training_table(list(records.values()))
    runs = tuple(_with_quality(records[run_id], records) for run_id in table.get("run_id", []))
    columns, missing = _columns(out, records)
    finished = [column for column in columns if not column.reason]
    sampled = [_folder(out, column.run_id) for column in finished]
    prompts = _prompts(sampled)
    fractions = tuple(
        sorted(
            {fraction for folder in sampled for fraction in folder.stage().fields_as(DiTFields).evaluation.sample_at}
        )
    )
    if finished and not prompts:
        missing["comparison"] = "The runs of the columns have no samples."
    forecast = _forecast(out)
    figures: tuple[PageFigure, ...] = ()
    if forecast is None:
        missing["prediction"] = f"There is no {out.name}/prediction.json: no forecast was made before the runs."
        missing["figures"] = "They are drawn from a forecast."
    else:
        with_loss = table[table["val_loss"].notna()]  # those that diverged have none
        figures = _figures(out, with_loss, forecast, [records[column.run_id] for column in finished])
    vae = _reconstructions(out, runs, records)
    if vae is None:
        missing["vae"] = "No finished run names a finished VAE."
    if not finished:
        missing["recipe"] = "No run of a column has finished."
    return ReportData(
        title="What more compute buys a video generator",
        sweep=next((record.sweep for record in runs if record.sweep), ""),
        columns=columns,
        fractions=fractions,
        prompts=prompts,
        clips=tuple(
            _clip(out, column, fraction, i) for column in columns for fraction in fractions for i in range(len(prompts))
        ),
        prediction=_prediction(out, forecast) if forecast else None,
        figures=figures,
        tuning=_tuning(out),
        runs=runs,
        vae=vae,
        recipe=_recipe(out, finished, records, commands) if finished else None,
        missing=missing,
    )


def _runs_of_the_sweep(out: Path, records: "dict[str, RunRecord]") -> "dict[str, RunRecord]":
    """The sweep's training runs, and all other stages.

    Other specs may have run in the same folder: training runs that neither the forecast nor a column names are left
    out, except for runs of the same sweep that diverged.
    """
    forecast, columns = _forecast(out), out / "columns.json"
    if forecast is None:
        return records
    named = set(forecast.run_ids)
    if columns.exists():
        named |= {str(column["run_id"]) for column in read_document(columns)}
    sweeps = {records[run_id].sweep for run_id in named & records.keys()}
    named |= {record.run_id for record in records.values() if record.diverged_at is not None and record.sweep in sweeps}
    return {run_id: record for run_id, record in records.items() if record.stage != "dit" or run_id in named}


def _folder(out: Path, run_id: str) -> "StageFolder":
    from scaling.core.stage_folder import StageFolder

    return StageFolder(out / "runs" / run_id)


def _with_quality(run: "RunRecord", records: "dict[str, RunRecord]") -> "RunRecord":
    """A trained model's record, with what another stage measured of it: `metrics` of a run's samples, `reconstruction`
    of a VAE."""
    role, stage = ("vae", "reconstruction") if run.stage == "vae" else ("dit", "metrics")
    measured = [r for r in records.values() if r.stage == stage and r.parents.get(role) == run.run_id]
    return run.replace(metrics=run.metrics + tuple(m for r in measured for m in r.metrics))


def _columns(out: Path, records: "dict[str, RunRecord]") -> "tuple[tuple[ComparisonColumn, ...], dict[Any, str]]":
    """The columns that columns.json names, each with a reason where its run has no record."""
    from analysis.report.data import ComparisonColumn
    from scaling.core.specs import parse_spec

    path = out / "columns.json"
    if not path.exists():
        return (), {"comparison": f"There is no {out.name}/columns.json that names the runs to compare."}
    document = read_document(path)
    if not isinstance(document, list):
        raise UserError(f"{path}: expected a list of columns, found {type(document).__name__}")
    columns = []
    for number, entry in enumerate(document):
        column = parse_spec(ComparisonColumn, entry, f"{path}: column {number}")
        started = _folder(out, column.run_id).path.is_dir()
        reason = "this run has not finished" if started else "this run has not started"
        columns.append(column.replace(reason="" if column.run_id in records else reason))
    return tuple(columns), {}


def _prompts(sampled: "list[StageFolder]") -> "tuple[Prompt, ...]":
    """The prompts and seeds that all sampled runs share."""
    from analysis.report.data import Prompt
    from scaling.core.specs import parse_spec

    prompts: dict[Path, tuple[Prompt, ...]] = {}
    for path in (folder.samples_path / "prompts.json" for folder in sampled):
        if path.exists():
            prompts[path] = tuple(parse_spec(Prompt, entry, str(path)) for entry in read_document(path))
    if len(set(prompts.values())) > 1:
        raise UserError(
            f"{' and '.join(map(str, prompts))}: different prompts or seeds do not compare; sample them again"
        )
    return next(iter(prompts.values()), ())


def _clip(out: Path, column: "ComparisonColumn", fraction: float, prompt: int) -> "PageClip":
    from analysis.report.data import PageClip

    cell = {"compute": column.compute, "fraction": fraction, "prompt": prompt}
    if column.reason:
        return PageClip(**cell, reason=column.reason)
    path = _folder(out, column.run_id).samples_after(fraction) / f"{prompt:02d}.mp4"
    return (
        PageClip(**cell, path=path) if path.exists() else PageClip(**cell, reason=f"no {path.parent.name}/{path.name}")
    )


def _forecast(out: Path) -> "Forecast | None":
    """The forecast on record, or None where none was made."""
    from analysis.forecast.record import Forecast
    from scaling.core.specs import parse_spec

    path = out / "prediction.json"
    return parse_spec(Forecast, read_document(path), str(path)) if path.exists() else None


def _prediction(out: Path, forecast: "Forecast") -> "LossPrediction":
    """The forecast's headline, with the outcome where the predicted run was measured."""
    from analysis.report.data import LossPrediction
    from scaling.core.specs import parse_spec

    path = out / "outcome.json"
    measured = read_document(path) if path.exists() else {}
    forecast_fields = ("target_flops", "n_params", "num_tokens", "val_loss", "low", "high", "level")
    outcome = ("measured", "relative_error", "inside")
    fields = {name: getattr(forecast, name) for name in forecast_fields} | {
        name: measured.get(name) for name in outcome
    }
    return parse_spec(LossPrediction, fields, str(path))


def _figures(
    out: Path, table: "pandas.DataFrame", forecast: "Forecast", columns: "list[RunRecord]"
) -> "tuple[PageFigure, ...]":
    """The figures, drawn into OUT/figures; the star is the column of the forecast's compute, once it has an outcome."""
    from analysis.forecast.record import SAME_COMPUTE, compare
    from analysis.report.page_figures import draw_figures

    computes = {record.compute: record.train_flops for record in columns if record.train_flops is not None}
    close = [r for r in columns if r.train_flops and abs(r.train_flops / forecast.target_flops - 1) <= SAME_COMPUTE]
    comparison = compare(forecast, close[-1]) if close and (out / "outcome.json").exists() else None
    return draw_figures(out / "figures", table, forecast, comparison, computes)


def _tuning(out: Path) -> "PageFigure | None":
    """The trials, drawn into OUT/figures, where the sweep had some."""
    from analysis.report.page_figures import draw_tuning
    from scaling.core.records import Tuning
    from scaling.core.specs import parse_spec

    path = out / "tuning.json"
    if not path.exists():
        return None
    return draw_tuning(out / "figures", parse_spec(Tuning, read_document(path), str(path)))


def _reconstructions(
    out: Path, runs: "tuple[RunRecord, ...]", records: "dict[str, RunRecord]"
) -> "Reconstructions | None":
    from analysis.report.data import ReconstructionPair, Reconstructions

    vae = next((records[run.vae_id] for run in runs if run.vae_id in records), None)
    if vae is None:
        return None
    vae = _with_quality(vae, records)
    originals = sorted((_folder(out, vae.run_id).path / "reconstructions").glob("original-*.mp4"))
    pairs = [(path, path.with_name(path.name.replace("original", "decoded"))) for path in originals]
    return Reconstructions(
        run=vae,
        pairs=tuple(ReconstructionPair(original=path, decoded=decoded) for path, decoded in pairs if decoded.exists()),
    )


def _recipe(
    out: Path, columns: "list[ComparisonColumn]", records: "dict[str, RunRecord]", commands: tuple[str, ...]
) -> "Recipe":
    """What made the columns, from their own records and specs."""
    from analysis.report.data import Recipe

    record = records[columns[-1].run_id]
    fields = _folder(out, record.run_id).stage().fields_as(DiTFields)
    settings = {name: str(value) for name, value in fields.evaluation.model_dump(exclude={"prompts", "seed"}).items()}
    for column in columns:
        dit = _folder(out, column.run_id).stage().fields_as(DiTFields).dit
        settings[f"{column.compute} model"] = ", ".join(f"{name} {value}" for name, value in dit.model_dump().items())
    seeds = {"sampling": fields.evaluation.seed, "training": fields.seed}
    return Recipe(
        commands=(*commands, f"scaling report {out}"),
        git_revision=record.git_revision,
        versions=record.versions,
        seeds=seeds,
        settings=settings,
        stage_ids={**record.parents, **{column.compute: column.run_id for column in columns}},
    )
