"""Runs a sweep on this machine: its stages, as the controller names them, and the report.

Complete stages are not done again.
"""

from pathlib import Path

from scaling.core.errors import UserError
from scaling.core.machine import usable_cores, usable_memory
from slurm.local_precision import choose_precision, in_precision
from slurm.local_stages import execute
from slurm.progress import stage_progress
from sweeps.controller import Controller
from sweeps.result import SweepResult
from sweeps.spec import StudySpec, SweepSpec


def run_sweep(sweep: SweepSpec | StudySpec, out: Path, commands: tuple[str, ...]) -> SweepResult:
    """Runs a sweep into `out`. `commands` are the command lines that a reader of the report would repeat.

    Raises what `execute` and the controller raise.
    """
    runs = _writable(out) / "runs"
    cores = usable_cores()
    hardware = sweep.hardware.on_machine(cores, usable_memory())
    sweep = sweep.replace(hardware=hardware)
    sweep = in_precision(sweep, choose_precision(sweep, out))
    controller = Controller(sweep, out)
    completed = None
    while current := controller.next():
        if current == completed:
            raise UserError(
                f"{runs}: runs of '{current.title}' have just ended but are missing; does anything remove them?"
            )
        with stage_progress(current.title) as watch:
            execute(current.stages, runs, jobs=hardware.jobs or 1, cores=cores, gpus=hardware.gpus, watch=watch)
        completed = current
    return controller.finish(commands)


def _writable(out: Path) -> Path:
    try:
        (out / "runs").mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"{out}: cannot be created or written ({error.strerror}); choose another --out") from None
    return out
