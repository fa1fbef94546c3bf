"""`scaling submit SWEEP --cluster CLUSTER`: a sweep on SLURM, from videos to a report."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from scaling.cli.options import Changes, Json, PositiveFloat, SweepName, changes_of, command_line
from scaling.cli.printing import print_note, print_result, print_submission

if TYPE_CHECKING:
    from slurm.controller_job import Step


def run(
    sweep: SweepName,
    /,
    *,
    cluster_name: Annotated[str, Parameter("--cluster", help="a YAML file, or the name of a shipped cluster")],
    out: Annotated[
        Path | None, Parameter(help="output folder, shared by all nodes (default: the name of the sweep)")
    ] = None,
    budget_gpu_hours: Annotated[
        PositiveFloat | None,
        Parameter(help="submit nothing beyond this many GPU-hours (default: the limit of the last submission)"),
    ] = None,
    changes: Changes = (),
    dry_run: Annotated[bool, Parameter(help="print the scripts for sbatch and submit nothing")] = False,
    as_json: Json = False,
) -> int:
    """Submits what is missing of a sweep as job arrays, and a small job that continues the sweep when they have ended:
    it submits failed jobs again, then the next phase, and writes the report. To submit a sweep again is safe: no stage
    is submitted twice.

    examples:
      scaling submit base_4x_32x --cluster my_cluster.yaml --budget-gpu-hours 4000
      scaling submit base_4x_32x --cluster h100 --set optim.muon_lr=0.01 --dry-run
      scaling status base_4x_32x --watch
    """
    from scaling.core.errors import UserError
    from slurm import preflight, request
    from slurm.cluster import LocalCluster, load_cluster
    from slurm.controller_job import advance
    from slurm.local_sweep import run_sweep
    from slurm.scheduler import Scheduler
    from slurm.submissions import Submissions
    from sweeps.load import load_sweep

    spec, cluster = load_sweep(sweep, changes_of(changes)), load_cluster(cluster_name)
    out = (out or Path(spec.name)).absolute()
    command = command_line("submit", sweep, changes, "--cluster", cluster_name, "--out", out.name)
    if isinstance(cluster, LocalCluster):
        if dry_run:
            raise UserError("--dry-run: this machine has no scheduler; 'scaling plan' lists what would run")
        if budget_gpu_hours is not None:
            raise UserError(
                "--budget-gpu-hours: only a SLURM cluster counts them; 'scaling plan' says what a run takes"
            )
        print_result(run_sweep(spec, out, (command,)), as_json=as_json)
        return 0
    before = request.find(out)
    if before is not None and before.sweep.name != spec.name:
        raise UserError(f"{out}: the sweep {before.sweep.name} was submitted from here; choose another --out")
    if budget_gpu_hours is None and before is not None:
        budget_gpu_hours = before.budget_gpu_hours
    new = request.Request(sweep=spec, cluster=cluster, budget_gpu_hours=budget_gpu_hours, command=command)
    if dry_run:
        _print_scripts(advance(out, new, dry_run=True, say=print_note), as_json=as_json)
        return 0
    with Submissions(out).exclusive():
        preflight.check(cluster, Scheduler(out / "slurm"))
        request.save(out, new)
    try:
        step = advance(out, new, say=print_note)
    except UserError:
        request.restore(out, before)
        raise
    return print_submission(out, step, as_json=as_json)


def _print_scripts(step: "Step", *, as_json: bool) -> None:
    if step.submitted is None or step.ready is None:
        print(json.dumps({"scripts": []}) if as_json else "everything is done; nothing would be submitted")
    elif as_json:
        print(json.dumps({"phase": step.ready.title, "scripts": step.submitted.scripts}))
    else:
        for number, script in enumerate(step.submitted.scripts, start=1):
            print(f"# sbatch {number} of {len(step.submitted.scripts)}\n{script}\n")
