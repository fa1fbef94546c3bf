"""Runs a sweep on this machine: its rounds, one after the other, and the report.

Complete stages are not done again. Which stages a round has, and what follows from them, is in `sweeps.controller`.
"""

import os
from pathlib import Path

from scaling.core.errors import UserError
from slurm.local import execute
from slurm.progress import stage_progress
from sweeps.controller import finish, next_round
from sweeps.result import Outcome
from sweeps.spec import SweepSpec
from sweeps.stages import common_stages


def run_sweep(sweep: SweepSpec, out: Path, commands: tuple[str, ...]) -> Outcome:
    """Runs a sweep into `out`. `commands` are the command lines that a reader of the report would repeat.

    Raises what `execute`, `next_round` and `finish` raise.
    """
    runs, hardware = _writable(out) / "runs", sweep.hardware
    common = common_stages(sweep)
    completed = None
    while current := next_round(sweep, common, out):
        if current == completed:
            raise UserError(
                f"{runs}: runs of '{current.title}' have just ended but are missing; does anything remove them?"
            )
        with stage_progress(current.title) as watch:
            execute(
                current.stages, runs, jobs=hardware.jobs, cores=os.cpu_count() or 1, gpus=hardware.gpus, watch=watch
            )
        completed = current
    return finish(sweep, common, out, commands)


def _writable(out: Path) -> Path:
    try:
        (out / "runs").mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"{out}: cannot be created or written ({error.strerror}); choose another --out") from None
    return out
