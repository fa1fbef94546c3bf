"""GPU-hours: what was spent, what is promised to jobs in the queue, and what a limit leaves."""

from collections.abc import Sequence
from pathlib import Path

from scaling.core.attempts import attempts
from scaling.core.errors import UserError
from scaling.core.stage import StageFolder
from slurm.arrays import Job
from slurm.reconcile import Live


def check(runs: Path, live: Sequence[Live], todo: Sequence[Job], limit: float | None) -> dict[str, float | None]:
    """A line for the ledger. Raises UserError where the limit does not suffice."""
    spent, promised, wanted = _spent(runs), _promised(runs, live), sum(job.gpu_hours for job in todo)
    if limit is not None and spent + promised + wanted > limit:
        raise UserError(
            f"--budget-gpu-hours is {limit:g}, but {spent:.3g} are spent, {promised:.3g} promised to queued jobs, and "
            f"this would add {wanted:.3g}: raise it, or make the sweep smaller"
        )
    return {"spent": spent, "promised": promised, "limit": limit}


def _spent(runs: Path) -> float:
    """In all attempts, whether they came to something or not, until their last sign of life."""
    folders = [StageFolder(path.parent) for path in runs.glob("*/attempts")]
    return sum(attempt.gpus * attempt.seconds / 3600 for folder in folders for attempt in attempts(folder))


def _promised(runs: Path, live: Sequence[Live]) -> float:
    return sum(
        hours
        for one in live
        for stage, hours in zip(one.submission.stages, one.submission.gpu_hours, strict=True)
        if stage in one.stages and not StageFolder(runs / stage).complete
    )
