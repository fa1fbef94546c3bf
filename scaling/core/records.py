"""What a run reports of itself, and the table of all of them. Pandas is imported when a table is asked for."""

import platform
import subprocess
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import Field

from scaling.core.errors import UserError
from scaling.core.label import Label
from scaling.core.specs import EngineSpec, Spec, parse_spec
from scaling.core.store import read_document, write_document

if TYPE_CHECKING:
    import pandas


class Metric(Spec):
    """One measured number and what it takes to compare it with another."""

    name: str
    value: float
    standard_error: float | None = None
    n: int | None = None
    """Clips behind the number."""
    extractor: str | None = None
    """Feature network of a perceptual metric, such as `i3d_k400`."""
    settings: dict[str, Any] = {}


class RunRecord(Label):
    """One finished stage. A field that was not measured is None, never 0."""

    run_id: str
    stage: str
    """The kind of the stage."""
    parents: dict[str, str] = {}
    vae_id: str | None = None
    """Validation losses compare only inside one VAE."""
    data_id: str | None = None
    seed: int | None = None
    n_params: int | None = None
    """Parameters without embeddings: the blocks, the modulation and the head."""
    n_params_total: int | None = None
    num_tokens: int | None = None
    """Training tokens seen, repeats included."""
    unique_clips: int | None = None
    unique_tokens: int | None = None
    flop_budget: float | None = None
    """Training FLOPs asked for."""
    train_flops: float | None = None
    """Training FLOPs behind the weights, those of a trunk included."""
    spent_flops: float | None = None
    """Training FLOPs that this stage itself did."""
    learning_rate: float | None = None
    """The peak rate of the blocks' matrices, which `optimizer` updates."""
    adamw_lr: float | None = None
    """The peak rate of AdamW, which updates all other weights."""
    optimizer: str | None = None
    warmup_steps: float | None = None
    """Updates in which the rates rise linearly."""
    decay_steps: float | None = None
    """Updates at the end in which the rates fall linearly to zero."""
    batch_tokens: float | None = None
    """Mean number of tokens in a batch."""
    steps: int | None = None
    """Updates of the weights."""
    shape: dict[str, Any] = {}
    """Width, depth and the like, for the reader."""
    diverged_at: int | None = None
    """Updates after which the loss was no longer finite: a run that has no metrics, but is a result."""
    metrics: tuple[Metric, ...] = ()
    wall_seconds: float | None = Field(None, ge=0)
    device: str | None = None
    engine: EngineSpec | None = None
    """How the machine did the work."""
    mfu: float | None = None
    """Share of the peak FLOP/s, where the peak is known."""
    flops_per_second: float | None = None
    versions: dict[str, str] = {}
    git_revision: str | None = None

    def metric(self, name: str) -> Metric | None:
        """The metric of that name, or None if it was not measured."""
        return next((metric for metric in self.metrics if metric.name == name), None)

    def value(self, name: str) -> float | None:
        metric = self.metric(name)
        return None if metric is None else metric.value


class Trial(Spec):
    """A run at learning rates of its own."""

    run_id: str
    rates: dict[str, float]
    """By field of `OptimSpec`."""
    val_loss: float | None
    """None where it diverged."""


class Tuning(Spec):
    """The trials of a sweep and the rates that they led to, as tuning.json keeps them beside the runs."""

    asked: dict[str, Any]
    """The sweep's section `tuning`."""
    trials: tuple[Trial, ...]
    chosen: Trial


def write_record(path: Path, record: RunRecord) -> None:
    write_document(path, record.model_dump(mode="json"))


def read_record(path: Path) -> RunRecord:
    """Raises UserError where the file is missing, broken or has fields that a record does not have."""
    return parse_spec(RunRecord, read_document(path), str(path))


def read_records(runs: Path) -> list[RunRecord]:
    """The records of all complete stages in a folder of runs, or in the output folder around it, ordered by id.

    Each is under the labels of the sweep that asked for it last: another may have trained the same run before.
    """
    if not runs.is_dir():
        raise UserError(f"{runs}: no such folder of runs")
    runs = runs / "runs" if (runs / "runs").is_dir() else runs
    return [_labelled(mark.parent) for mark in sorted(runs.glob("*/COMPLETE"))]


def _labelled(folder: Path) -> RunRecord:
    record, spec = read_record(folder / "record.json"), folder / "spec.json"
    if not spec.exists():
        return record
    asked = read_document(spec)
    return record.replace(**{name: asked[name] for name in Label.model_fields if name in asked})


def training_table(records: list[RunRecord]) -> "pandas.DataFrame":
    """One row per `dit` run but tuning's: run_id, sweep, compute, vae_id, n_params, num_tokens, train_flops, val_loss,
    val_loss_se, fvd, steps, wall_seconds and so on; the metrics of a `metrics` stage join the run that they measured.
    Missing is NaN.

    Raises UserError if the runs are of different VAEs, because their losses do not compare.
    """
    import pandas

    runs = [record for record in records if record.stage == "dit" and record.phase != "tuning"]
    vaes = sorted({str(record.vae_id) for record in runs})
    if len(vaes) > 1:
        raise UserError(f"runs of different VAEs do not compare: {', '.join(vaes)}; give runs of one vae_id")
    measured = {record.parents["dit"]: record for record in records if record.stage == "metrics"}
    rows = []
    for run in runs:
        row = run.model_dump(exclude={"metrics", "parents", "versions", "shape", "engine", "axes"})
        row = {**run.axes, **row, "compute": run.compute}
        row |= run.shape
        loss = run.metric("val_loss")
        row["val_loss"] = loss.value if loss else None
        row["val_loss_se"] = loss.standard_error if loss else None
        extra = measured.get(run.run_id)
        row["fvd"] = extra.value("fvd") if extra else None
        rows.append(row)
    table = pandas.DataFrame(rows)
    return table.sort_values(["flop_budget", "n_params"], ignore_index=True) if len(table) else table


def versions(*packages: str) -> dict[str, str]:
    """Versions of Python and of the packages that are installed."""
    found = {"python": platform.python_version()}
    for package in packages:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


def git_revision() -> str | None:
    """The commit of the code that runs, with a `+` where the tree has changes; None outside a checkout."""
    command = [
        "git",
        "-C",
        str(Path(__file__).parent),
        "describe",
        "--always",
        "--abbrev=12",
        "--dirty=+",
        "--exclude=*",
    ]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=10).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return None
