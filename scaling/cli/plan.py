"""`scaling plan SWEEP`: what a sweep will run and what it will cost. Submits nothing, imports no torch."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from scaling.cli.options import Changes, Json, SweepName, changes_of

if TYPE_CHECKING:
    from sweeps.planning.plan_values import Plan
    from sweeps.spec import StudySpec, SweepSpec

MOST_SKIPPED = 5
"""Skipped files that are named, at most."""


def run(
    sweep: SweepName,
    /,
    *,
    cluster_name: Annotated[
        str,
        Parameter("--cluster", help="a cluster's YAML file, or the name of a shipped one; local: the sweep's own "
                  "hardware section"),
    ] = "local",
    out: Annotated[
        Path | None, Parameter(help="output folder with the runs that are done (default: the name of the sweep)")
    ] = None,
    changes: Changes = (),
    with_causes: Annotated[
        bool, Parameter("--explain", help="say why each stage that is not complete has to run")
    ] = False,
    as_json: Json = False,
) -> int:  # fmt: skip
    """Prints the phases of a sweep, what each waits for, its GPUs, hours, price and disk; and of every training run
    parameters N, tokens D and training FLOPs C.

    examples:
      scaling plan base_4x_32x --cluster h100
      scaling plan my_sweep.yaml --out out --explain
      scaling plan demo --set target=16 --json
    """
    from scaling.core.machine import usable_cores, usable_memory
    from slurm.cluster import LocalCluster, load_cluster
    from slurm.local_precision import chosen_precision
    from sweeps.explain import explain
    from sweeps.load import load_sweep
    from sweeps.phases import planned_phases
    from sweeps.planning.plan import plan
    from sweeps.planning.skipped_files import skipped_files

    spec, cluster = load_sweep(sweep, changes_of(changes)), load_cluster(cluster_name)
    capacity = None if isinstance(cluster, LocalCluster) else cluster.capacity()
    if capacity is None:
        spec = spec.replace(hardware=spec.hardware.on_machine(usable_cores(), usable_memory()))
    folder = out or Path(spec.name)
    runs, precision = folder / "runs", chosen_precision(spec, folder) if capacity is None else None
    known = planned_phases(spec, runs)
    planned = plan(spec, runs, capacity, known=known)
    causes = explain(known.stages, runs) if with_causes else None
    skipped = skipped_files(known.stages.values(), runs)
    if as_json:
        causes_document = {} if causes is None else {"causes": [cause.to_document() for cause in causes]}
        print(json.dumps({**planned.to_document(), "precision": precision, "skipped": skipped, **causes_document}))
        return 0
    if capacity is None:
        hardware = spec.hardware
        at_a_time = "one job" if hardware.jobs == 1 else f"{hardware.jobs} jobs"
        machine = f"this machine, {at_a_time} at a time"
        speed = f"{hardware.flops_per_second:.3g} FLOP/s a job"
    else:
        machine = f"{cluster.name}, {capacity.gpus} GPUs at a time"
        speed = f"{capacity.flops_per_gpu:.3g} FLOP/s a GPU"
    print("\n\n".join([_phases(planned), _runs(planned), _summary(spec, planned, machine, speed)]))
    if capacity is None:
        print(_precision(spec, precision))
    for row in skipped[:MOST_SKIPPED]:
        print(f"Skipped: {row['file']}: {row['reason']}")
    if len(skipped) > MOST_SKIPPED:
        print(f"Skipped: {len(skipped) - MOST_SKIPPED} more files, which 'scaling data check' lists.")
    if causes is not None:
        print("\n" + ("\n".join(map(str, causes)) or "Every stage is complete."))
    return 0


def _phases(planned: "Plan") -> str:
    header = ["phase", "waits for", "stages", "done", "GPUs", "longest", "GPU-hours", "USD", "disk"]
    rows = [
        [
            phase.name,
            ", ".join(phase.after) or "-",
            str(phase.count),
            str(phase.done),
            str(phase.gpus or "-"),
            _hours(phase.hours),
            _gpu_hours(phase.gpu_hours),
            _number(phase.price, ".2f"),
            _bytes(phase.disk_bytes),
        ]
        for phase in planned.phases
    ]
    return _table(header, rows, left_aligned=2)


def _runs(planned: "Plan") -> str:
    numbers = ["N", "D (tokens)", "C (FLOPs)", "steps", "GPUs", "time", "GPU-hours", "USD", "disk"]
    axes = list(dict.fromkeys(axis for line in planned.runs for axis in line.axes))
    header = ["compute", "size", *axes, *numbers, ""]
    rows = [
        [
            line.compute,
            line.size,
            *(line.axes.get(axis, "") for axis in axes),
            f"{line.n_params:,}",
            _number(line.num_tokens, ".3g"),
            _number(line.train_flops, ".3g"),
            f"{line.steps:,}",
            str(line.gpus or "-"),
            _hours(line.hours),
            _gpu_hours(line.gpu_hours),
            _number(line.price, ".2f"),
            _bytes(line.disk_bytes),
            "done" if line.done else "",
        ]
        for line in planned.runs
    ]
    return _table(header, rows, left_aligned=2 + len(axes))


def _summary(sweep: "SweepSpec | StudySpec", planned: "Plan", machine: str, speed: str) -> str:
    from sweeps.spec import SweepSpec

    runs, done = len(planned.runs), sum(line.done for line in planned.runs)
    basis = f"assumed: {speed}"
    if planned.measured_runs:
        basis = f"measured on {planned.measured_runs} finished runs; {speed} is assumed where they give no speed"
    lines = [
        f"{runs} runs{f', {done} of them done' if done else ''}; the rest takes {_hours(planned.hours)} on {machine}: "
        f"{planned.gpu_hours:.3g} GPU-hours, {planned.price:.2f} USD. Disk in the end: {_bytes(planned.disk_bytes)}.",
        f"Training speed {basis}. Time in a queue, and to start jobs, is not counted.",
        f"The time of a run includes its validation and its {_num_samples(sweep)} samples.",
    ]
    if isinstance(sweep, SweepSpec):
        size = f"The size at {sweep.target_name}"
        lines.append(
            f"{size} is {planned.target_size}, whose training has begun."
            if planned.target_begun
            else f"{size} is an assumption: the law will choose among {', '.join(sweep.target_sizes)}."
        )
        if sweep.tuning is not None:
            lines.append(
                "Runs are planned at the sweep's own learning rates until tuning has chosen them; then their ids "
                "change."
            )
    if planned.unknown:
        lines.append(f"Not counted, because the videos must be opened to know it: {', '.join(planned.unknown)}.")
    return "\n".join(lines)


def _precision(sweep: "SweepSpec | StudySpec", precision: str | None) -> str:
    if sweep.hardware.gpus:
        return f"Matrix products are in {precision or 'bf16'}."
    if precision:
        return f"Matrix products are in {precision}, which is decided for this output folder."
    return "Matrix products will be in bf16 or fp32, whichever is faster here; it is measured when the sweep starts."


def _num_samples(sweep: "SweepSpec | StudySpec") -> int:
    from sweeps.spec import StudySpec

    evaluation = sweep.runs[0].spec.evaluation if isinstance(sweep, StudySpec) else sweep.evaluation
    return len(evaluation.sample_at) * (len(evaluation.prompts) or evaluation.prompt_count)


def _table(header: Sequence[str], rows: Sequence[Sequence[str]], left_aligned: int) -> str:
    """Columns as wide as their longest cell; the first `left_aligned` columns are flush left, the others right."""
    widths = [max(len(row[column]) for row in [header, *rows]) for column in range(len(header))]
    lines = []
    for row in [header, *rows]:
        cells = [f"{cell:{'<' if n < left_aligned else '>'}{widths[n]}}" for n, cell in enumerate(row)]
        lines.append("  ".join(cells).rstrip())
    return "\n".join(lines)


def _hours(hours: float | None) -> str:
    if hours is None:
        return "-"
    if hours >= 1:
        return f"{hours:.3g} h" if hours < 1000 else f"{hours:,.0f} h"
    return f"{hours * 60:.2g} min" if hours * 60 >= 1 else f"{hours * 3600:.2g} s"


def _gpu_hours(value: float | None) -> str:
    return "<.001" if value and value < 0.001 else _number(value, ".3g")


def _number(value: float | None, form: str) -> str:
    return "-" if value is None else format(value, form)


def _bytes(count: float | None) -> str:
    if not count:
        return "-"
    for unit, size in (("TB", 1e12), ("GB", 1e9), ("MB", 1e6)):
        if count >= size:
            return f"{count / size:.3g} {unit}"
    return f"{count / 1e3:.2g} kB"
