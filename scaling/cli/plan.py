"""`scaling plan SWEEP`: what a sweep will do and what it will cost. Submits nothing, imports no torch."""

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sweeps.planning.plan import Plan
    from sweeps.spec import StudySpec, SweepSpec


def add_parser(subparsers: Any) -> None:
    """Adds the verb to the command line."""
    parser = subparsers.add_parser(
        "plan",
        help="the runs of a sweep with N, D, C, time, price and disk",
        description="Prints what a sweep would do: its phases, what each waits for, GPUs, hours, price and disk; and "
        "of every training run parameters N, tokens D, training FLOPs C.",
        epilog="examples:\n  scaling plan base_4x_32x --cluster h100\n  scaling plan my_sweep.yaml --out out --explain",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("sweep", metavar="SWEEP", help="a YAML file, or the name of a shipped sweep")
    parser.add_argument(
        "--cluster",
        default="local",
        metavar="CLUSTER",
        help="a cluster's YAML file, or the name of a shipped one (default: local, the sweep's own hardware section)",
    )
    parser.add_argument("--out", type=Path, metavar="DIR", help="output folder in which to look for finished runs")
    parser.add_argument("--explain", action="store_true", help="say why each stage that is not complete has to be done")
    parser.add_argument("--json", action="store_true", help="print the plan as one JSON object")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Prints the plan. Raises UserError."""
    from slurm.cluster import LocalCluster, load_cluster
    from sweeps.explain import explain
    from sweeps.load import load_sweep
    from sweeps.phases import planned_phases
    from sweeps.planning.plan import plan

    sweep, cluster = load_sweep(args.sweep), load_cluster(args.cluster)
    capacity = None if isinstance(cluster, LocalCluster) else cluster.capacity()
    runs = (args.out or Path(sweep.name)) / "runs"
    known = planned_phases(sweep, runs)
    planned = plan(sweep, runs, capacity, known=known)
    causes = explain(known.stages, runs) if args.explain else None
    if args.json:
        why = {} if causes is None else {"causes": [cause.to_document() for cause in causes]}
        print(json.dumps({**planned.to_document(), **why}))
        return 0
    if capacity is None:
        hardware = sweep.hardware
        machine = f"the sweep's hardware, {hardware.jobs} jobs at a time"
        speed = f"{hardware.flops_per_second:.3g} FLOP/s a job"
    else:
        machine = f"{cluster.name}, {capacity.gpus} GPUs at a time"
        speed = f"{capacity.flops_per_gpu:.3g} FLOP/s a GPU"
    print("\n\n".join([_phases(planned), _runs(planned), _summary(sweep, planned, machine, speed)]))
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
    return _table(header, rows, left=2)


def _runs(planned: "Plan") -> str:
    header = [
        "compute",
        "size",
        "N",
        "D (tokens)",
        "C (FLOPs)",
        "steps",
        "GPUs",
        "time",
        "GPU-hours",
        "USD",
        "disk",
        "",
    ]
    rows = [
        [
            line.compute,
            line.size,
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
    return _table(header, rows, left=2)


def _summary(sweep: "SweepSpec | StudySpec", planned: "Plan", machine: str, speed: str) -> str:
    from sweeps.spec import SweepSpec

    runs, done = len(planned.runs), sum(line.done for line in planned.runs)
    basis = f"assumed: {speed}"
    if planned.measured_runs:
        basis = f"measured on {planned.measured_runs} finished runs; where they say nothing, {speed} is assumed"
    lines = [
        f"{runs} runs{f', {done} of them done' if done else ''}; left to do on {machine}: {_hours(planned.hours)}, "
        f"{planned.gpu_hours:.3g} GPU-hours, {planned.price:.2f} USD. Disk in the end: {_bytes(planned.disk_bytes)}.",
        f"Training speed {basis}. Time in a queue, and to start jobs, is not counted.",
        f"Every run draws its {_videos(sweep)} samples and does its validation itself, which is counted there.",
    ]
    if isinstance(sweep, SweepSpec):
        size = f"The size at {sweep.target_name}"
        lines.append(
            f"{size} is {planned.target_size}, which has been begun."
            if planned.target_begun
            else f"{size} is an assumption: the law chooses among {', '.join(sweep.target_sizes)}."
        )
        if sweep.tuning is not None:
            lines.append(
                "Until tuning has chosen the rates, runs are planned at the sweep's own, and their ids will change."
            )
    if planned.unknown:
        lines.append(f"Not known before the videos are opened, and not counted: {', '.join(planned.unknown)}.")
    return "\n".join(lines)


def _videos(sweep: "SweepSpec | StudySpec") -> int:
    from sweeps.spec import StudySpec

    evaluation = sweep.runs[0].spec.evaluation if isinstance(sweep, StudySpec) else sweep.evaluation
    return len(evaluation.sample_at) * (len(evaluation.prompts) or evaluation.prompt_count)


def _table(header: Sequence[str], rows: Sequence[Sequence[str]], left: int) -> str:
    """Columns as wide as they need to be; the first `left` of them flush left."""
    widths = [max(len(row[column]) for row in [header, *rows]) for column in range(len(header))]
    lines = []
    for row in [header, *rows]:
        cells = [f"{cell:{'<' if n < left else '>'}{widths[n]}}" for n, cell in enumerate(row)]
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
