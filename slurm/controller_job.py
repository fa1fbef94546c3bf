"""One step of a submitted sweep: submits what is missing of its present round, or writes the report at the end.

The command line takes it when a user submits or tries again, and the steering job when all jobs of a round have ended.
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
from scaling.stages.run import MICRO_BATCHED
from slurm import request as requests
from slurm.arrays import Job
from slurm.cluster import SlurmCluster
from slurm.request import Request
from slurm.scheduler import Scheduler, SchedulerDownError
from slurm.submit import Launcher
from slurm.submit import Outcome as Submitted
from slurm.worker import AGAIN, FAILED
from sweeps.controller import Controller, ReadyStages
from sweeps.planning.plan import PlannedStage, price_stages
from sweeps.result import SweepResult

DISK_SECONDS = 300.0
"""Between two tries on a full disk."""


@dataclass(frozen=True)
class Step:
    """What a step came to: a round with what was submitted of it, or the end."""

    round: ReadyStages | None
    submitted: Submitted | None
    told: SweepResult | None


def advance(
    out: Path,
    request: Request,
    *,
    dry_run: bool = False,
    say: Callable[[str], None] = print,
    myself: str = "",
) -> Step:
    """Raises UserError where the user has something to mend, SchedulerDownError where the scheduler does not answer."""
    sweep, capacity = request.sweep, request.cluster.capacity()
    launcher = Launcher(out, request.cluster, Scheduler(out / "slurm"), say=say)
    with _copy(out) if dry_run else nullcontext(out) as where:  # what a round follows from is written down
        one = Controller(sweep, where).next()
    if one is None and dry_run:
        return Step(None, None, None)
    if one is None:
        told = Controller(sweep, out).finish((request.command,))
        launcher.dismiss(myself)
        return Step(None, None, told)
    priced = price_stages(sweep.hardware, one.stages, out / "runs", capacity)
    jobs = [
        Job(stage, line.gpus, _hours(line, request.cluster), line.gpu_hours or 0.0)
        for stage, line in zip(one.stages, priced, strict=True)
    ]
    submitted = launcher.submit(
        sweep.name, jobs, carry_on, limit=request.budget_gpu_hours, dry_run=dry_run, myself=myself
    )
    return Step(one, submitted, None)


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
    """What the time limit goes by. Work without checkpoints must not run into it, and its estimate is rough."""
    if line.hours is None:  # not known before a user's videos have been looked at
        return cluster.hours_limit
    return line.hours if line.kind in MICRO_BATCHED else 4 * line.hours + 1


def carry_on(path: str) -> NoReturn:
    """What the jobs do that go on with the sweep, given the output folder. Ends the process."""
    out = Path(path)
    code, words = _carried_on(out)
    print(words, flush=True)
    with suppress(OSError, NoSpaceError):
        requests.say_last(out, words, failed=code != 0)
    exit_now(code)


def _carried_on(out: Path) -> tuple[int, str]:
    try:
        step = advance(out, requests.load(out), myself=os.environ.get("SLURM_JOB_NAME", ""))
    except SchedulerDownError as down:
        return AGAIN, str(down)
    except (NoSpaceError, OSError) as full:
        time.sleep(DISK_SECONDS)
        return AGAIN, f"{full}; trying again"
    except (UserError, StageError) as error:
        return FAILED, str(error)
    except Exception as error:
        traceback.print_exc()
        return FAILED, f"{type(error).__name__}: {error}"
    if step.told is not None:
        return 0, f"done; the report is {step.told.report}"
    assert step.submitted is not None
    assert step.round is not None
    if step.submitted.blocked and not (step.submitted.submitted or step.submitted.busy):
        stage, reason = next(iter(step.submitted.blocked.items()))
        return FAILED, f"nothing can go on: {stage}: {reason}"
    return 0, f"{step.round.title}: {sum(len(one.stages) for one in step.submitted.submitted)} jobs submitted"
