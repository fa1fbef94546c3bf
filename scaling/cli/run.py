"""`scaling run SWEEP`: a sweep on this machine, from videos to a report."""

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sweeps.result import LadderResult, StudyResult, SweepResult
    from sweeps.spec import StudySpec, SweepSpec


def add_parser(subparsers: Any) -> None:
    """Adds the verb to the command line."""
    parser = subparsers.add_parser(
        "run",
        help="run a sweep here, skipping what is done",
        description="Trains a sweep's models on this machine, foretells the target run, trains it, and writes the "
        "report.",
        epilog="examples:\n  scaling run demo --out out\n  scaling run my_sweep.yaml --out out --json",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("sweep", metavar="SWEEP", help="a YAML file, or the name of a shipped sweep")
    parser.add_argument("--out", type=Path, metavar="DIR", help="output folder (default: the sweep's name)")
    parser.add_argument("--json", action="store_true", help="print the result as one JSON object")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Runs the sweep. Raises UserError."""
    from sweeps.load import load_sweep

    sweep = load_sweep(args.sweep)
    return run_and_print(sweep, args.out or Path(sweep.name), f"scaling run {args.sweep}", args.json)


def run_and_print(sweep: "SweepSpec | StudySpec", out: Path, command: str, as_json: bool) -> int:
    """Runs a sweep on this machine and prints its result, for people or as one JSON object."""
    from slurm.run_local import run_sweep

    result = run_sweep(sweep, out, (f"{command} --out {out.name}",))
    print(json.dumps(result.to_document()) if as_json else summary(result))
    return 0


def summary(result: "SweepResult") -> str:
    """The result of a sweep in a few lines for people."""
    from sweeps.result import StudyResult

    lines = _study_lines(result) if isinstance(result, StudyResult) else _ladder_lines(result)
    return "\n".join([*lines, f"report: {result.report}"])


def _ladder_lines(result: "LadderResult") -> list[str]:
    lines = [f"{'':6}{'N':>12}{'D':>12}{'C (FLOPs)':>12}{'val loss':>10}{'FVD':>8}"]
    for column in result.columns:
        run, loss = column.run, column.run.value("val_loss")
        fvd = f"{column.fvd:8.0f}" if column.fvd is not None else f"{'-':>8}"
        lines.append(f"{run.compute:6}{run.n_params:12,}{run.num_tokens:12,}{run.train_flops:12.3g}{loss:10.4f}{fvd}")
    prediction = result.prediction
    inside = "inside" if prediction.low <= result.measured <= prediction.high else "OUTSIDE"
    lines.append(
        f"predicted before the {result.columns[-1].run.compute} run: {prediction.val_loss:.4f}, "
        f"{prediction.level:.0%} interval [{prediction.low:.4f}, {prediction.high:.4f}]; "
        f"measured {result.measured:.4f}, {inside}"
    )
    return lines


def _study_lines(result: "StudyResult") -> list[str]:
    """One line for each combination: the mean loss, how far its seeds are apart, and the difference to the first."""
    names = [", ".join(row.axes.values()) for row in result.rows]
    width = max(map(len, names))
    lines = [f"{'':{width}}{'size':>10}{'N':>12}{'C (FLOPs)':>12}{'val loss':>10}{'seeds':>8}{'against first':>15}"]
    for name, row in zip(names, result.rows, strict=True):
        losses = [loss for loss in row.losses if loss is not None]
        apart = f"{max(losses) - min(losses):8.4f}" if len(losses) > 1 else f"{'-':>8}"
        loss = "diverged" if row.val_loss is None else f"{row.val_loss:.4f}"
        change = "-" if row.against_first is None else f"{row.against_first:+.1%}"
        lines.append(
            f"{name:{width}}{row.size:>10}{row.n_params:12,}{row.train_flops:12.3g}{loss:>10}{apart}{change:>15}"
        )
    return lines
