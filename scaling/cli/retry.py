"""`scaling retry OUT [RUN ...]`: submits failed, lost and cancelled stages again."""

from scaling.cli.options import Json, RunName, SweepFolder
from scaling.cli.printing import print_note, print_submission
from scaling.cli.selection import select
from scaling.core.errors import UserError

RETRIED = ("failed", "lost", "cancelled")


def run(out: SweepFolder, /, *runs: RunName, as_json: Json = False) -> int:
    """Submits the named stages again; without a name all that failed, were lost or were cancelled. Their earlier
    failures no longer count. They continue from their checkpoints.

    examples:
      scaling retry base_4x_32x
      scaling retry base_4x_32x dit-w384d12@4x
    """
    from scaling.core.attempts import reset_failures
    from scaling.core.stage_folder import StageFolder
    from slurm import request
    from slurm.cancellation import cancel_mark
    from slurm.controller_job import advance
    from slurm.sweep_status import sweep_status

    submitted = request.load(out)
    stages = {stage.id: stage for stage in sweep_status(out).stages}
    retried = [stage for stage in select(stages, runs) if stages[stage].state in RETRIED]
    if runs and not retried:
        raise UserError(f"{', '.join(runs)}: neither failed nor lost nor cancelled; there is nothing to submit again")
    for stage in retried:
        folder = StageFolder(out / "runs" / stage)
        cancel_mark(folder).unlink(missing_ok=True)
        reset_failures(folder)
    return print_submission(out, advance(out, submitted, say=print_note), as_json=as_json)
