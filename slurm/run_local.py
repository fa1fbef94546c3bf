"""The whole story of a sweep on this machine: its rounds, one after the other, and the report.

Whatever is done is found and not done again. What a round holds, and what follows from it, is in `sweeps.controller`.
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


def tell(sweep: SweepSpec, out: Path, commands: tuple[str, ...]) -> Outcome:
    """Runs a sweep into `out`. `commands` are the lines that a reader of the report would repeat.

    Raises what `execute`, `next_round` and `finish` raise.
    """
    runs, hardware = _writable(out) / "runs", sweep.hardware
    common = common_stages(sweep)
    before = None
    while one := next_round(sweep, common, out):
        if one == before:
            raise UserError(
                f"{runs}: does not hold all of '{one.title}', which has just ended; who removes runs there?"
            )
        with stage_progress(one.title) as watch:
            execute(one.stages, runs, jobs=hardware.jobs, cores=os.cpu_count() or 1, gpus=hardware.gpus, watch=watch)
        before = one
    return finish(sweep, common, out, commands)


def _writable(out: Path) -> Path:
    try:
        (out / "runs").mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"{out}: cannot be made or written ({error.strerror}); choose another --out") from None
    return out
