"""Records: what a finished stage reports of itself, and the table of all training runs. Imports pandas only for the
table."""

from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import Field

from scaling.core.errors import UserError
from scaling.core.label import Label
from scaling.core.specs import EngineSpec, Precision, Spec, parse_spec
from scaling.core.store import read_document, write_document

if TYPE_CHECKING:
    import pandas


Scalar = str | int | float | bool | None
"""A value of one cell of a table."""

Setting = Scalar | tuple[float, ...]
"""A value of a setting of a metric, such as a number of frames or an interval of flow times."""


class Metric(Spec):
    """One measured number, and what has to be equal for it to be comparable with another."""

    name: str
    """Name of the metric, such as `val_loss` or `fvd`."""
    value: float
    """The measured number."""
    standard_error: float | None = None
    """Standard error of the mean over clips, where the number is such a mean."""
    n: int | None = None
    """Number of clips that were measured."""
    extractor: str | None = None
    """Feature network of a perceptual metric, such as `i3d_k400`."""
    settings: dict[str, Setting] = {}
    """Settings of the measurement, by name."""


class RunRecord(Label):
    """The report of one finished stage. A field that was not measured is None, never 0."""

    run_id: str
    """The id of the stage."""
    stage: str
    """The kind of the stage."""
    parents: dict[str, str] = {}
    """The role of each stage that this one was made from, and that stage's id."""
    vae_id: str | None = None
    """The id of the `vae` stage. Validation losses are comparable only if it is the same."""
    data_id: str | None = None
    """The id of the `data` stage."""
    seed: int | None = None
    """The seed of the stage's random numbers."""
    n_params: int | None = None
    """Parameters without embeddings: the blocks, the modulation and the head. N of the scaling law."""
    n_params_total: int | None = None
    """All parameters."""
    num_tokens: int | None = None
    """Training tokens seen, repeats included. D of the scaling law."""
    unique_clips: int | None = None
    """Number of different clips in the training data."""
    unique_tokens: int | None = None
    """Number of tokens of those clips."""
    flop_budget: float | None = None
    """Training FLOPs that the sweep asked for."""
    train_flops: float | None = None
    """Training FLOPs behind the weights, those of a trunk included. C of the scaling law."""
    spent_flops: float | None = None
    """Training FLOPs of this stage itself, without those of a trunk."""
    learning_rate: float | None = None
    """Peak learning rate of the matrices of the blocks, which `optimizer` updates."""
    adamw_lr: float | None = None
    """Peak learning rate of AdamW, which updates all other weights."""
    optimizer: str | None = None
    """Optimizer of the matrices of the blocks."""
    warmup_steps: float | None = None
    """Number of updates in which the learning rates rise linearly."""
    decay_steps: float | None = None
    """Number of updates at the end in which the learning rates fall linearly to zero."""
    batch_tokens: float | None = None
    """Mean number of tokens in a batch."""
    steps: int | None = None
    """Number of updates of the weights."""
    shape: dict[str, Scalar] = {}
    """Further facts by name, such as the width and depth of a model or the number of clips of a data set. The table of
    runs has a column for each."""
    diverged_at: int | None = None
    """Number of updates after which the loss was no longer finite. Such a run has no metrics, but is a result."""
    metrics: tuple[Metric, ...] = ()
    """What was measured of the stage's result."""
    wall_seconds: float | None = Field(None, ge=0)
    """Time that the last attempt took."""
    device: str | None = None
    """Kind of the device that did the work, `cuda` or `cpu`."""
    processor: str | None = None
    """Name of the processor, with its vector instructions."""
    precision: Precision | None = None
    """Precision of the matrix products and convolutions."""
    engine: EngineSpec | None = None
    """How the machine did the work."""
    mfu: float | None = None
    """Share of the peak FLOP/s of the GPUs that the training reached, where the peak is known."""
    flops_per_second: float | None = None
    """Training FLOP/s of all devices together, from the median time of an update."""
    versions: dict[str, str] = {}
    """Versions of Python and of the packages that the result depends on."""
    git_revision: str | None = None
    """Commit of the code, followed by `+` if its working tree had changes."""

    def metric(self, name: str) -> Metric | None:
        """The metric with this name, or None if it was not measured."""
        return next((metric for metric in self.metrics if metric.name == name), None)

    def value(self, name: str) -> float | None:
        """The value of the metric with this name, or None if it was not measured."""
        metric = self.metric(name)
        return None if metric is None else metric.value


class Trial(Spec):
    """One run of the tuning of the learning rates."""

    run_id: str
    rates: dict[str, float]
    """The learning rates of the run, by field of `OptimSpec`."""
    val_loss: float | None
    """Validation loss of the run; None where the run diverged."""


class Tuning(Spec):
    """tuning.json: the trials of a sweep and the trial whose learning rates it uses."""

    asked: dict[str, str | int | float | list[float] | None]
    """The fields of the sweep's section `tuning` as JSON values; a range is a list of two rates."""
    trials: tuple[Trial, ...]
    chosen: Trial


def write_record(path: Path, record: RunRecord) -> None:
    write_document(path, record.model_dump(mode="json"))


def read_record(path: Path) -> RunRecord:
    """Raises UserError where the file is missing, broken or has fields that a record does not have."""
    return parse_spec(RunRecord, read_document(path), str(path))


def read_records(runs: Path) -> list[RunRecord]:
    """The records of all complete stages in a folder of runs, or in the output folder that contains it, ordered by id.

    Each record has the label of the sweep that last asked for the stage: another sweep may have made it.
    """
    if not runs.is_dir():
        raise UserError(f"{runs}: no such folder of runs")
    runs = runs / "runs" if (runs / "runs").is_dir() else runs
    return [_record_with_label(mark.parent) for mark in sorted(runs.glob("*/COMPLETE"))]


def _record_with_label(folder: Path) -> RunRecord:
    record, spec_path = read_record(folder / "record.json"), folder / "spec.json"
    if not spec_path.exists():
        return record
    spec = read_document(spec_path)
    return record.replace(**{name: spec[name] for name in Label.model_fields if name in spec})


def training_table(records: list[RunRecord]) -> "pandas.DataFrame":
    """One row per `dit` run, without those of the tuning: run_id, sweep, compute, vae_id, n_params, num_tokens,
    train_flops, steps, wall_seconds and so on, and every metric under its name, with its standard error as
    `<name>_se`. The metrics of a `metrics` stage are in the row of the run that they measure. Missing values are NaN.

    Raises UserError if the runs are of different VAEs, because their losses are not comparable.
    """
    import pandas

    runs = [record for record in records if record.stage == "dit" and record.phase != "tuning"]
    vaes = sorted({str(record.vae_id) for record in runs})
    if len(vaes) > 1:
        raise UserError(f"runs of different VAEs are not comparable: {', '.join(vaes)}; give runs of one vae_id")
    metrics_of = {record.parents["dit"]: record for record in records if record.stage == "metrics"}
    rows = []
    for run in runs:
        row = run.model_dump(exclude={"metrics", "parents", "versions", "shape", "engine", "axes"})
        row = {**run.axes, **row, "compute": run.compute}
        row |= run.shape
        row |= {"val_loss": None, "val_loss_se": None, "fvd": None}  # the columns of a table whose runs all lack them
        measured = metrics_of.get(run.run_id)
        for metric in (*run.metrics, *(measured.metrics if measured else ())):
            row[metric.name] = metric.value
            if metric.standard_error is not None:
                row[f"{metric.name}_se"] = metric.standard_error
        rows.append(row)
    table = pandas.DataFrame(rows)
    return table.sort_values(["flop_budget", "n_params"], ignore_index=True) if len(table) else table
