"""`scaling cancel OUT [RUN ...]`: cancels jobs; what they have done stays."""

from scaling.cli.options import RunName, SweepFolder
from scaling.cli.printing import print_note
from scaling.cli.selection import select

FINISHED = ("done", "diverged")


def run(out: SweepFolder, /, *runs: RunName) -> int:
    """Cancels the jobs of the named stages; without a name all jobs of the sweep, with the one that continues it.
    Checkpoints stay. Cancelled stages are not submitted again before 'scaling retry' does it.

    examples:
      scaling cancel base_4x_32x
      scaling cancel base_4x_32x dit-w384d12@4x
    """
    from slurm import request
    from slurm.scheduler import Scheduler
    from slurm.submit import Launcher
    from slurm.sweep_status import sweep_status

    submitted = request.load(out)
    stages = {stage.id: stage for stage in sweep_status(out).stages}
    unfinished = [stage for stage in select(stages, runs) if stages[stage].state not in FINISHED]
    launcher = Launcher(out, submitted.cluster, Scheduler(out / "slurm"), say=print_note)
    elements = launcher.cancel(unfinished, everything=not runs)
    print(f"{len(unfinished)} stages cancelled, {len(elements)} jobs taken out of the queue")
    return 0
