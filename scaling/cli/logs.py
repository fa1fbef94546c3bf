"""`scaling logs OUT RUN`: the log of a stage's latest job."""

import time
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from scaling.cli.options import NonNegativeInt, PositiveInt, SweepFolder
from scaling.cli.selection import select
from scaling.core.errors import UserError

FOLLOW_SECONDS = 1.0
CONTROLLER = "controller"
"""The name by which a user asks for the logs of the job that continues the sweep."""


def run(
    out: SweepFolder,
    stage: Annotated[
        str,
        Parameter(help=f"id of a stage, the beginning of one, SLUG@COMPUTE, or '{CONTROLLER}': the job that continues "
                  "the sweep"),
    ],
    /,
    *,
    rank: Annotated[NonNegativeInt, Parameter(help="rank of a run on several GPUs")] = 0,
    lines: Annotated[PositiveInt, Parameter(help="lines of each file, counted from its end")] = 40,
    follow: Annotated[bool, Parameter(help="continue to print what is added, until interrupted")] = False,
) -> int:  # fmt: skip
    """Prints the end of the log of a stage's latest job, and of its events.

    examples:
      scaling logs base_4x_32x dit-w384d12@4x
      scaling logs base_4x_32x vae --follow
      scaling logs base_4x_32x controller
    """
    from slurm.log_files import controller_log_files, log_files
    from slurm.sweep_status import sweep_status

    if stage == CONTROLLER:
        files = controller_log_files(out)
    else:
        stages = {status.id: status for status in sweep_status(out).stages}
        files = log_files(out, stages[select(stages, [stage])[0]], rank)
    if not files:
        raise UserError(f"{stage}: no log yet; 'scaling status {out}' prints its state")
    _print_files(files, lines, follow)
    return 0


def _print_files(files: list[Path], lines: int, follow: bool) -> None:
    printed_bytes: dict[Path, int] = {}
    for path in files:
        content = path.read_bytes()
        printed_bytes[path] = len(content)
        print(f"==> {path} <==")
        print("\n".join(content.decode(errors="replace").splitlines()[-lines:]), flush=True)
    while follow:
        time.sleep(FOLLOW_SECONDS)
        for path in files:
            with open(path, "rb") as file:
                file.seek(printed_bytes[path])
                added = file.read()
            printed_bytes[path] += len(added)
            if added:
                print(added.decode(errors="replace"), end="", flush=True)
