"""One step of a submitted sweep: submits the ready stages that are missing, or writes the report at the end.

The command line takes it when a user submits or retries, the controller job when all submitted jobs have ended, and
the patrol job every hour until then.
"""

import os
import shutil
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NoReturn

from scaling.core.errors import NoSpaceError, StageError, UserError
from scaling.distributed.ranks import exit_now
from scaling.stages.modules import TRAINING_KINDS
from slurm import request as requests
from slurm.array_submission import SubmitResult
from slurm.arrays import StageJob
from slurm.cluster import SlurmCluster
from slurm.controller_message import write_controller_message
from slurm.local_precision import with_chosen_precision
from slurm.request import Request
from slurm.scheduler import Scheduler, SchedulerDownError
from slurm.submit import Launcher
from slurm.worker import FAILED, REQUEUE
from sweeps.controller import Controller, ReadyStages
from sweeps.planning.plan_values import PlannedStage
from sweeps.planning.pricing import price_stages
from sweeps.result import SweepResult

DISK_SECONDS = 300.0
"""Between two tries on a full disk."""


@dataclass(frozen=True)
class Step:
    """What one step of a submitted sweep came to: the ready stages and what was submitted of them, or the result."""

    ready: ReadyStages | None
    submitted: SubmitResult | None
    result: SweepResult | None


def advance(
    out: Path,
    request: Request,
    *,
    dry_run: bool = False,
    say: Callable[[str], None] = print,
    own_name: str = "",
) -> Step:
    """Submits what is ready and missing, or writes the report where nothing is left to run. `own_name` is the name of
    the job that calls this.

    Raises UserError for what the user can fix, SchedulerDownError where the scheduler does not answer.
    """
    sweep, capacity = with_chosen_precision(request.sweep, out), request.cluster.capacity()
    launcher = Launcher(out, request.cluster, Scheduler(out / "slurm"), say=say)
    with _copy(out) if dry_run else nullcontext(out) as folder:  # the controller writes its choices down
        ready = Controller(sweep, folder).next()
    if ready is None and dry_run:
        return Step(None, None, None)
    if ready is None:
        result = Controller(sweep, out).finish((request.command,))
        launcher.cancel_controllers(own_name)
        return Step(None, None, result)
    priced = price_stages(sweep.hardware, ready.stages, out / "runs", capacity)
    jobs = [
        StageJob(stage, line.gpus, _hours(line, request.cluster), line.gpu_hours or 0.0)
        for stage, line in zip(ready.stages, priced, strict=True)
    ]
    submitted = launcher.submit(
        sweep.name, jobs, run_controller_job, limit=request.budget_gpu_hours, dry_run=dry_run, own_name=own_name
    )
    return Step(ready, submitted, None)


@contextmanager
def _copy(out: Path) -> Iterator[Path]:
    """The documents of an output folder, to be changed without consequences, beside its real runs."""
    with TemporaryDirectory() as folder:
        for document in out.glob("*.json"):
            shutil.copy(document, folder)
        if (out / "runs").is_dir():
            (Path(folder) / "runs").symlink_to(out / "runs")
        yield Path(folder)


def _hours(line: PlannedStage, cluster: SlurmCluster) -> float:
    """Hours that the time limit of a job is made from. Stages without checkpoints must not run into it, and their
    estimates are rough."""
    if line.hours is None:  # not known before a user's videos have been opened
        return cluster.hours_limit
    return line.hours if line.kind in TRAINING_KINDS else 4 * line.hours + 1


def run_controller_job(path: str) -> NoReturn:
    """What a controller job does, given the output folder. Ends the process."""
    out = Path(path)
    code, message = _take_step(out)
    print(message, flush=True)
    with suppress(OSError, NoSpaceError):
        write_controller_message(out, message, failed=code != 0)
    exit_now(code)


def _take_step(out: Path) -> tuple[int, str]:
    """The exit code of the job, and its message."""
    try:
        step = advance(out, requests.load(out), own_name=os.environ.get("SLURM_JOB_NAME", ""))
    except SchedulerDownError as down:
        return REQUEUE, str(down)
    except (NoSpaceError, OSError) as full:
        time.sleep(DISK_SECONDS)
        return REQUEUE, f"{full}; trying again"
    except (UserError, StageError) as error:
        return FAILED, str(error)
    except Exception as error:
        traceback.print_exc()
        return FAILED, f"{type(error).__name__}: {error}"
    if step.result is not None:
        return 0, f"the sweep is complete; its report is {step.result.report}"
    assert step.submitted is not None
    assert step.ready is not None
    if step.submitted.blocked and not (step.submitted.submitted or step.submitted.in_queue):
        stage, reason = next(iter(step.submitted.blocked.items()))
        return FAILED, f"no stage can be run: {stage}: {reason}"
    count = sum(len(array.stages) for array in step.submitted.submitted)
    return 0, f"{step.ready.title}: {count} jobs submitted"
