"""`scaling run SWEEP`: a sweep on this machine, from videos to a report."""

from pathlib import Path

from scaling.cli.options import Changes, Json, NewFolder, SweepName, changes_of, command_line
from scaling.cli.printing import print_result


def run(
    sweep: SweepName,
    /,
    *,
    out: NewFolder = None,
    changes: Changes = (),
    as_json: Json = False,
) -> int:
    """Trains the models of a sweep on this machine, predicts the loss of the target run, trains it, and writes the
    report. What is done already is not done again.

    examples:
      scaling run demo --out out
      scaling run my_sweep.yaml --set target=16 --set optim.muon_lr=0.01 --json
    """
    from slurm.local_sweep import run_sweep
    from sweeps.load import load_sweep

    spec = load_sweep(sweep, changes_of(changes))
    out = out or Path(spec.name)
    result = run_sweep(spec, out, (command_line("run", sweep, changes, "--out", out.name),))
    print_result(result, as_json=as_json)
    return 0
