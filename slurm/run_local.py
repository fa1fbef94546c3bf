"""A whole sweep on this machine: its stages, as the controller names them, and the report.

Whatever is complete is not done again.
"""

import os
from pathlib import Path

from scaling.core.errors import UserError
from slurm.local import execute
from slurm.progress import stage_progress
from sweeps.controller import Controller
from sweeps.result import SweepResult
from sweeps.spec import StudySpec, SweepSpec


def run_sweep(sweep: SweepSpec | StudySpec, out: Path, commands: tuple[str, ...]) -> SweepResult:
    """Runs a sweep into `out`. `commands` are the lines that a reader of the report would repeat.

    Raises what `execute` and the controller raise.
    """
    runs, hardware = _writable(out) / "runs", sweep.hardware
    controller = Controller(sweep, out)
    before = None
    while one := controller.next():
        if one == before:
            raise UserError(
                f"{runs}: does not hold all of '{one.title}', which has just ended; who removes runs there?"
            )
        with stage_progress(one.title) as watch:
            execute(one.stages, runs, jobs=hardware.jobs, cores=os.cpu_count() or 1, gpus=hardware.gpus, watch=watch)
        before = one
    return controller.finish(commands)


def _writable(out: Path) -> Path:
    try:
        (out / "runs").mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"{out}: cannot be made or written ({error.strerror}); choose another --out") from None
    return out
