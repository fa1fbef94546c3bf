"""One step of a submitted sweep: submits what is missing of its present round, or writes the report at the end.

The command line takes it when a user submits or tries again, and the steering job when all jobs of a round have ended.
"""

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

from scaling.cli.outcome import Outcome
from scaling.cli.rounds import Round, finish, next_round
from scaling.errors import StageError, UserError
from scaling.ranks import leave
from scaling.store import write_document
from slurm import request as requests
from slurm.request import Request
from slurm.scheduler import Scheduler, SchedulerDownError
from slurm.submit import Job, Launcher
from slurm.submit import Outcome as Submitted
from slurm.worker import AGAIN, FAILED
from sweeps.plan import price_stages
from sweeps.stages import common_stages

LAST_WORDS = "steering.json"
"""In OUT/slurm: what the steering job said last, for `scaling status`."""


@dataclass(frozen=True)
class Step:
    """What a step came to: a round with what was submitted of it, or the end."""

    round: Round | None
    submitted: Submitted | None
    told: Outcome | None


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
    common = common_stages(sweep)
    one = next_round(sweep, common, out)
    if one is None:
        return Step(None, None, finish(sweep, common, out, (request.command,)))
    priced = price_stages(sweep, one.stages, out / "runs", capacity)
    jobs = [
        Job(stage, line.gpus, line.hours or 0.0, line.gpu_hours or 0.0)
        for stage, line in zip(one.stages, priced, strict=True)
    ]
    launcher = Launcher(out, request.cluster, Scheduler(out / "slurm"), say=say)
    submitted = launcher.submit(
        sweep.name, jobs, carry_on, budget=request.budget_gpu_hours, dry_run=dry_run, myself=myself
    )
    return Step(one, submitted, None)


def carry_on(path: str) -> NoReturn:
    """What the steering job does, given the output folder. Ends the process."""
    out = Path(path)
    code, words = _carried_on(out)
    print(words, flush=True)
    write_document(out / "slurm" / LAST_WORDS, {"words": words, "failed": code != 0})
    leave(code)


def _carried_on(out: Path) -> tuple[int, str]:
    try:
        step = advance(out, requests.load(out), myself=os.environ.get("SLURM_JOB_NAME", ""))
    except SchedulerDownError as down:
        return AGAIN, str(down)
    except (UserError, StageError) as error:
        return FAILED, str(error)
    if step.told is not None:
        return 0, f"done; the report is {step.told.report}"
    assert step.submitted is not None
    assert step.round is not None
    if stuck := step.submitted.blocked and not (step.submitted.submitted or step.submitted.busy):
        stage, reason = next(iter(step.submitted.blocked.items()))
        return FAILED, f"nothing can go on: {stage}: {reason}" if stuck else ""
    return 0, f"{step.round.title}: {sum(len(one.stages) for one in step.submitted.submitted)} jobs submitted"
