"""GPU-hours: what was spent, what jobs in the queue are expected to spend, and whether a limit allows more."""

from collections.abc import Sequence
from pathlib import Path

from scaling.core.attempts import attempts
from scaling.core.errors import UserError
from scaling.core.stage_folder import StageFolder
from slurm.arrays import StageJob
from slurm.reconcile import QueuedArray


def check(
    runs: Path, queued: Sequence[QueuedArray], new: Sequence[StageJob], limit: float | None
) -> dict[str, float | None]:
    """The fields of a line of the ledger. Raises UserError where the limit is too low for the new jobs."""
    spent, promised, added = _spent(runs), _promised(runs, queued), sum(job.gpu_hours for job in new)
    if limit is not None and spent + promised + added > limit:
        raise UserError(
            f"--budget-gpu-hours is {limit:g}, but {spent:.3g} are spent, {promised:.3g} promised to queued jobs, and "
            f"this would add {added:.3g}: raise it, or make the sweep smaller"
        )
    return {"spent": spent, "promised": promised, "limit": limit}


def _spent(runs: Path) -> float:
    """GPU-hours of all attempts, successful or not, each until its last event."""
    folders = [StageFolder(path.parent) for path in runs.glob("*/attempts")]
    return sum(attempt.gpus * attempt.seconds / 3600 for folder in folders for attempt in attempts(folder))


def _promised(runs: Path, queued: Sequence[QueuedArray]) -> float:
    """GPU-hours that the jobs in the queue are expected to take."""
    return sum(
        hours
        for array in queued
        for stage, hours in zip(array.submission.stages, array.submission.gpu_hours, strict=True)
        if stage in array.stages and not StageFolder(runs / stage).complete
    )
