"""`scaling plan SWEEP`: the runs of a sweep and what they will cost. Submits nothing, imports no torch."""

import argparse
import json
from dataclasses import asdict
from pathlib import Path
from typing import Any


def add_parser(subparsers: Any) -> None:
    """Adds the verb to the command line."""
    parser = subparsers.add_parser(
        "plan",
        help="the runs of a sweep with N, D, C, time, price and disk",
        description="Prints what a sweep would train: parameters N, tokens D, training FLOPs C, hours, price, disk.",
        epilog="examples:\n  scaling plan base_4x_32x\n  scaling plan my_sweep.yaml --out out --json",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("sweep", metavar="SWEEP", help="a YAML file, or the name of a shipped sweep")
    parser.add_argument("--out", type=Path, metavar="DIR", help="output folder in which to look for finished runs")
    parser.add_argument("--json", action="store_true", help="print the plan as one JSON object")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Prints the plan. Raises UserError."""
    from sweeps.plan import plan
    from sweeps.spec import load_sweep

    sweep = load_sweep(args.sweep)
    planned = plan(sweep, (args.out or Path(sweep.name)) / "runs")
    if args.json:
        print(json.dumps(asdict(planned)))
        return 0
    print(f"{'compute':8}{'size':10}{'N':>14}{'D (tokens)':>14}{'C (FLOPs)':>12}{'steps':>10}{'hours':>10}{'USD':>10}")
    for line in planned.runs:
        print(
            f"{line.compute:8}{line.size:10}{line.n_params:14,}{line.num_tokens:14.3g}{line.train_flops:12.3g}"
            f"{line.steps:10,}{line.hours:10.3g}{line.price:10.2f}{'  done' if line.done else ''}"
        )
    hardware = sweep.hardware
    print(
        f"{len(planned.runs)} runs and a VAE of {planned.vae_flops:.3g} FLOPs: {planned.hours:.3g} h "
        f"with {hardware.jobs} at a time at "
        f"{hardware.flops_per_second:.3g} FLOP/s each, {planned.gpu_hours:.3g} GPU-hours, "
        f"{planned.price:.2f} USD, {planned.disk_bytes / 1e9:.2g} GB of disk"
    )
    print(
        f"The size at {sweep.label(sweep.target)} is an assumption: the law chooses among "
        f"{', '.join(sweep.target_sizes)}."
    )
    return 0
