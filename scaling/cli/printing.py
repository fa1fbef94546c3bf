"""What several verbs print: a progress bar, the result of a sweep, what was submitted of one."""

import json
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from analysis.tables.table import Table
    from slurm.controller_job import Step
    from sweeps.result import LadderResult, StudyResult, SweepResult

MOST_REASONS = 10
"""Stages of which it is printed why they were not submitted, at most."""


def print_note(text: str) -> None:
    """On stderr, so that stdout has only results."""
    print(text, file=sys.stderr, flush=True)


def reading_lines(table: "Table") -> list[str]:
    """What was assumed when a table was read, and which of its runs were left out."""
    lines = [f"  note: {note}" for note in table.notes]
    for reason, runs in groupby(table.excluded, key=lambda excluded: excluded.reason):
        lines.append(f"  left out, {reason}: {', '.join(excluded.run for excluded in runs)}")
    return lines


@contextmanager
def count_progress(task_name: str) -> Iterator[Callable[[int, int], None]]:
    """A progress bar on stderr, to call with how many are done and how many there are."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True)) as bar:
        task = bar.add_task(task_name, total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)


def print_result(result: "SweepResult", *, as_json: bool) -> None:
    """The result of a finished sweep."""
    print(json.dumps(result.to_document()) if as_json else result_text(result))


def result_text(result: "SweepResult") -> str:
    """The result of a finished sweep in a few lines."""
    from sweeps.result import StudyResult

    lines = _study_lines(result) if isinstance(result, StudyResult) else _ladder_lines(result)
    return "\n".join([*lines, f"report: {result.report}"])


def _ladder_lines(result: "LadderResult") -> list[str]:
    lines = [f"{'':6}{'N':>12}{'D':>12}{'C (FLOPs)':>12}{'val loss':>10}{'FVD':>8}"]
    for column in result.columns:
        run, loss = column.run, column.run.value("val_loss")
        fvd = f"{column.fvd:8.0f}" if column.fvd is not None else f"{'-':>8}"
        lines.append(f"{run.compute:6}{run.n_params:12,}{run.num_tokens:12,}{run.train_flops:12.3g}{loss:10.4f}{fvd}")
    forecast, target = result.prediction, result.columns[-1].run.compute
    inside = "inside" if forecast.low <= result.measured <= forecast.high else "OUTSIDE"
    lines.append(
        f"predicted before the {target} run: {forecast.val_loss:.4f}, {forecast.level:.0%} interval "
        f"[{forecast.low:.4f}, {forecast.high:.4f}]; measured {result.measured:.4f}, {inside}"
    )
    return lines


def _study_lines(result: "StudyResult") -> list[str]:
    """A line for each combination: the mean loss, the range of its seeds, and the difference to the first."""
    names = [", ".join(row.axes.values()) for row in result.rows]
    width = max(map(len, names))
    lines = [f"{'':{width}}{'size':>10}{'N':>12}{'C (FLOPs)':>12}{'val loss':>10}{'range':>8}{'to first':>10}"]
    for name, row in zip(names, result.rows, strict=True):
        losses = [loss for loss in row.losses if loss is not None]
        spread = f"{max(losses) - min(losses):8.4f}" if len(losses) > 1 else f"{'-':>8}"
        loss = "diverged" if row.val_loss is None else f"{row.val_loss:.4f}"
        change = "-" if row.against_first is None else f"{row.against_first:+.1%}"
        numbers = f"{row.n_params or 0:12,}{row.train_flops or 0:12.3g}{loss:>10}{spread}{change:>10}"
        lines.append(f"{name:{width}}{row.size:>10}{numbers}")
    return lines


def print_submission(out: Path, step: "Step", *, as_json: bool) -> int:
    """What was submitted of a sweep, or its result where it is finished. Returns the exit code: 1 where there was
    something to submit and nothing could be."""
    if step.result is not None:
        print(json.dumps({"outcome": step.result.to_document()}) if as_json else result_text(step.result))
        return 0
    assert step.submitted is not None
    assert step.ready is not None
    submitted = step.submitted
    arrays = [array for array in submitted.submitted if array.runs_stages]
    jobs, hours = sum(len(array.stages) for array in arrays), sum(sum(array.gpu_hours) for array in arrays)
    if as_json:
        document = {
            "phase": step.ready.title,
            "jobs": jobs,
            "arrays": {array.array: list(array.stages) for array in arrays},
            "gpu_hours": hours,
            "in_queue": submitted.in_queue,
            "blocked": submitted.blocked,
            "full": submitted.queue_full,
        }
        print(json.dumps(document))
    else:
        text = f"{step.ready.title}: {jobs} jobs in {len(arrays)} arrays submitted, {hours:.3g} GPU-hours"
        print(f"{text}; {len(submitted.in_queue)} were in the queue already" if submitted.in_queue else text)
        for stage, reason in list(submitted.blocked.items())[:MOST_REASONS]:
            print(f"  not submitted: {stage}: {reason}")
        if len(submitted.blocked) > MOST_REASONS:
            print(f"  and {len(submitted.blocked) - MOST_REASONS} more; 'scaling status {out}' lists them")
        if submitted.blocked:
            print(f"remove what stopped them, then submit them again: scaling retry {out}")
        print(f"watch the sweep: scaling status {out} --watch")
    return 0 if jobs or submitted.in_queue else 1
