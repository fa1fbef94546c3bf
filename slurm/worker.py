"""What each task of a job does: one stage, together with the tasks of the job's other GPUs. Imports no torch before
there is work.

The batch script (`slurm.batch`) starts one task for each GPU through Submitit, which gives it one path, and requeues
the job where the exit code asks for it. Whether another attempt makes sense is decided by `scaling.core.attempts`.
"""

import os
import time
import traceback
from pathlib import Path
from typing import NoReturn

from scaling.core import signals
from scaling.core.attempts import attempts, disk_space, given_up
from scaling.core.stage_folder import StageFolder
from scaling.distributed.ranks import exit_now, join_slurm, rank
from scaling.stages.run import run_stage
from scaling.stages.training_ranks import train_as_rank
from slurm.cancellation import is_cancelled

REQUEUE = 85
"""Exit code of a task whose job should be requeued. A task that is killed because another one ended has a code from 128
on, which means the same: the checks at the beginning stop a job that has nothing to do."""
FAILED = 1
"""Exit code of a task whose job should not be requeued."""
DISK_POLL_SECONDS = 10.0
"""Time between two looks at a full disk."""
GPUS_VARIABLE, DEADLINE_VARIABLE = "SCALING_GPUS", "SCALING_DEADLINE"
"""Environment variables that the batch script sets: the number of GPUs of the job, and the time, in seconds since the
epoch, after which a signal means that the time limit is near."""


def work(path: str) -> NoReturn:
    """Completes the stage in this folder, as one of the tasks of a job. Ends the process."""
    signals.listen()
    join_slurm()
    exit_now(_exit_code(StageFolder(Path(path))))


def _exit_code(folder: StageFolder) -> int:
    """Does the work and gives the exit code. It is 0 whenever there is nothing to do, whatever the reason: tasks notice
    that at different times, and where one of them had another code, SLURM would kill the others."""
    job = job_name()
    try:
        if reason := _reason_to_skip(folder, job):
            print(f"{folder.path.name}: {reason}", flush=True)
            return 0
        _wait_for_disk_space(folder)
        if rank() == 0:
            run_stage(str(folder.path), job, int(os.environ[GPUS_VARIABLE]), float(os.environ[DEADLINE_VARIABLE]))
        else:
            train_as_rank(folder)
    except signals.StoppedError as stop:
        print(f"{folder.path.name}: {stop}", flush=True)
    except Exception:
        traceback.print_exc()
        if rank() > 0:
            return FAILED
    else:
        return 0
    return REQUEUE if given_up(folder, attempts(folder)) is None else FAILED


def _reason_to_skip(folder: StageFolder, job: str) -> str | None:
    """Why there is nothing to do, or None. All tasks of the job come to the same result, because they ignore the
    attempt that one of them may have started."""
    if folder.complete:
        return "already complete"
    if is_cancelled(folder):
        return "cancelled"
    for role in folder.stage().parents:
        if not folder.parent(role).complete:
            return f"its {role} is not complete"
    past_attempts = [attempt for attempt in attempts(folder) if attempt.job != job]
    return given_up(folder, past_attempts)


def _wait_for_disk_space(folder: StageFolder) -> None:
    """Waits while the disk is full, until someone has freed some space. Raises StoppedError where a signal stops it."""
    reported = False
    while True:
        needed, free = disk_space(folder)
        if free >= needed:
            return
        if not reported:
            print(
                f"{folder.path}: waiting for disk space: {needed / 1e6:.0f} MB needed, {free / 1e6:.0f} MB free",
                flush=True,
            )
            reported = True
        signals.check()
        time.sleep(DISK_POLL_SECONDS)


def job_name() -> str:
    """SLURM's name of this job and its number of restarts, `<array>_<index>.<restarts>`: each restart is an attempt."""
    variables = os.environ
    restarts = variables.get("SLURM_RESTART_COUNT", "0")
    return f"{variables['SLURM_ARRAY_JOB_ID']}_{variables['SLURM_ARRAY_TASK_ID']}.{restarts}"
