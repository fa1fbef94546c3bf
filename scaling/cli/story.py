"""The whole story of a sweep on this machine: train up to 4x, fit, foretell, train the target, compare, show.

This is where the four packages meet. Whatever is done is found and not done again.
"""

import math
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from analysis.forecast import Forecast, compare, forecast
from scaling import flops
from scaling.cli.progress import stage_progress
from scaling.cli.report import write_report
from scaling.errors import UserError
from scaling.records import RunRecord, read_record, training_table
from scaling.specs import parse_spec
from scaling.stage import Stage
from scaling.store import read_document, write_document
from slurm.local import execute
from sweeps.spec import SweepSpec
from sweeps.stages import common_stages, ladder_stages, metrics_stage, run_stage, trunk_stages

if TYPE_CHECKING:
    import pandas


@dataclass(frozen=True)
class Column:
    """One column of the comparison: the best run of its budget, and its distance to real videos."""

    compute: str
    run: RunRecord
    fvd: float | None

    def to_document(self) -> dict[str, Any]:
        return {
            "compute": self.compute,
            "train_flops": self.run.train_flops,
            "n_params": self.run.n_params,
            "num_tokens": self.run.num_tokens,
            "val_loss": self.run.value("val_loss"),
            "fvd": self.fvd,
            "run_id": self.run.run_id,
        }


@dataclass(frozen=True)
class Outcome:
    """What a finished sweep has to say."""

    columns: list[Column]
    prediction: Forecast
    measured: float
    report: Path

    def to_document(self) -> dict[str, Any]:
        return {
            "columns": [column.to_document() for column in self.columns],
            "prediction": {
                "at": self.columns[-1].compute,
                "val_loss": self.prediction.val_loss,
                "low": self.prediction.low,
                "high": self.prediction.high,
                "measured": self.measured,
            },
            "report": str(self.report),
        }


def tell(sweep: SweepSpec, out: Path, commands: tuple[str, ...]) -> Outcome:
    """Runs a sweep into `out`. `commands` are the lines that a reader of the report would repeat.

    The forecast is on disk, as prediction.json, before the target run starts.
    """
    runs = _writable(out) / "runs"
    common = common_stages(sweep)
    ladder = ladder_stages(sweep, common)
    stages = [*common.stages(), *trunk_stages(sweep, common), *ladder]
    _run(sweep, stages, runs, f"{sweep.name}: up to {max(sweep.ladder)}x")

    records = [_labelled(runs, stage) for stage in ladder]
    foretold = _foretell(out, training_table(records), sweep)

    target = run_stage(sweep, common, sweep.target, _nearest_size(sweep, foretold.n_params))
    best = {label: _best(records, label) for label in (sweep.label(1), sweep.label(4))}
    stages_of = {stage.id: stage for stage in ladder}
    chosen = [*(stages_of[record.run_id] for record in best.values()), target]
    measures = {stage.compute: metrics_stage(sweep, common, stage) for stage in chosen}
    *before, after = measures.values()
    _run(sweep, [*before, target, after, common.reconstruction], runs, f"{sweep.name}: {sweep.target}x")

    reached = _labelled(runs, target)
    comparison = compare(foretold, reached)
    write_document(out / "outcome.json", comparison.model_dump(mode="json"))
    columns = [
        Column(stage.compute, _labelled(runs, stage), _labelled(runs, measures[stage.compute]).value("fvd"))
        for stage in chosen
    ]
    write_document(out / "columns.json", [{"compute": c.compute, "run_id": c.run.run_id} for c in columns])
    page, _ = write_report(out, out / "report", commands)
    return Outcome(columns, foretold, comparison.measured, page)


def _foretell(out: Path, table: "pandas.DataFrame", sweep: SweepSpec) -> Forecast:
    """The forecast from these runs: said once, before the target run, and kept. Other runs make another forecast, and
    what was compared with the old one goes."""
    path, target_flops = out / "prediction.json", sweep.base_flops * sweep.target
    if path.exists():
        said = parse_spec(Forecast, read_document(path), str(path))
        if set(said.run_ids) == set(table["run_id"]) and said.target_flops == target_flops:
            return said
    for stale in ("outcome.json", "columns.json"):
        (out / stale).unlink(missing_ok=True)
    foretold = forecast(table, target_flops, seed=sweep.seed)
    write_document(path, foretold.to_document())
    return foretold


def summary(outcome: Outcome) -> str:
    """The outcome in a few lines for people."""
    lines = [f"{'':6}{'N':>12}{'D':>12}{'C (FLOPs)':>12}{'val loss':>10}{'FVD':>8}"]
    for column in outcome.columns:
        run, loss = column.run, column.run.value("val_loss")
        fvd = f"{column.fvd:8.0f}" if column.fvd is not None else f"{'-':>8}"
        lines.append(
            f"{column.compute:6}{run.n_params:12,}{run.num_tokens:12,}{run.train_flops:12.3g}{loss:10.4f}{fvd}"
        )
    said = outcome.prediction
    inside = "inside" if said.low <= outcome.measured <= said.high else "OUTSIDE"
    lines.append(
        f"foretold before the {outcome.columns[-1].compute} run: {said.val_loss:.4f}, {said.level:.0%} interval "
        f"[{said.low:.4f}, {said.high:.4f}]; measured {outcome.measured:.4f}, {inside}"
    )
    return "\n".join([*lines, f"report: {outcome.report}"])


def _run(sweep: SweepSpec, stages: list[Stage], runs: Path, title: str) -> None:
    hardware, cores = sweep.hardware, os.cpu_count() or 1
    with stage_progress(title) as watch:
        execute(stages, runs, jobs=hardware.jobs, cores=cores, gpus=hardware.gpus, watch=watch)


def _writable(out: Path) -> Path:
    try:
        (out / "runs").mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"{out}: cannot be made or written ({error.strerror}); choose another --out") from None
    return out


def _labelled(runs: Path, stage: Stage) -> RunRecord:
    """The record of a complete stage under the labels of this sweep: another may have trained the same run before."""
    record = read_record(runs / stage.id / "record.json")
    return record.model_copy(update={"sweep": stage.sweep, "compute": stage.compute})


def _best(records: list[RunRecord], label: str) -> RunRecord:
    """The run of a budget with the lowest validation loss."""
    of_budget = [record for record in records if record.compute == label]
    return min(of_budget, key=lambda record: record.value("val_loss") or math.inf)


def _nearest_size(sweep: SweepSpec, n_params: float) -> str:
    """The size among `target_sizes` whose N is nearest to the law's choice, by ratio."""

    def distance(name: str) -> float:
        count = flops.non_embedding(flops.dit_params(sweep.size(name), sweep.vae.latent_channels))
        return abs(math.log(count / n_params))

    return min(sweep.target_sizes, key=distance)
