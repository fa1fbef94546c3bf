"""What a task of a job does: one stage, in step with the tasks of the other GPUs. No torch until there is work.

The batch script (`slurm.batch`) starts a task for each GPU through Submitit, which gives it one path, and puts the job
back in the queue where the exit code says so. Whether another attempt is worth while is `scaling.core.attempts`' word.
"""

import os
import time
import traceback
from pathlib import Path
from typing import NoReturn

from scaling.core import signals
from scaling.core.attempts import attempts, given_up, room_to_try
from scaling.core.stage import StageFolder
from scaling.distributed.ranks import exit_now, join_slurm, rank
from scaling.stages.run import run_stage, take_part

AGAIN = 85
"""Exit code of a task whose job should go back into the queue. Tasks that are killed because another one ended have
codes from 128 on, which mean the same: the gate at the beginning stops what should not go on."""
FAILED = 1
ROOM_SECONDS = 10.0
GPUS, DUE = "SCALING_GPUS", "SCALING_DUE"
"""Variables that the batch script sets: GPUs of the job, and when a signal is put down to its time limit."""


def work(path: str) -> NoReturn:
    """Brings the stage in this folder to COMPLETE, as one of the tasks of a job. Ends the process."""
    signals.listen()
    join_slurm()
    exit_now(_outcome(StageFolder(Path(path))))


def _outcome(folder: StageFolder) -> int:
    """The exit code. It is 0 where there is nothing to do, for whatever reason: tasks come to that at different times,
    and the scheduler kills those that are late where the first has another code."""
    job = job_name()
    try:
        if reason := _gate(folder, job):
            print(f"{folder.path.name}: {reason}", flush=True)
            return 0
        _wait_for_room(folder)
        if rank() == 0:
            run_stage(str(folder.path), job, int(os.environ[GPUS]), float(os.environ[DUE]))
        else:
            take_part(folder)
    except signals.StoppedError as stop:
        print(f"{folder.path.name}: {stop}", flush=True)
    except Exception:
        traceback.print_exc()
        if rank() > 0:
            return FAILED
    else:
        return 0
    return AGAIN if given_up(folder, attempts(folder)) is None else FAILED


def _gate(folder: StageFolder, job: str) -> str | None:
    """Why there is nothing to do. All tasks come to the same answer: they leave out the attempt that is just made."""
    if folder.complete:
        return "complete already"
    if is_cancelled(folder):
        return "cancelled"
    for role in folder.stage().parents:
        if not folder.parent(role).complete:
            return f"its {role} is not complete"
    past = [attempt for attempt in attempts(folder) if attempt.job != job]
    return given_up(folder, past)


def _wait_for_room(folder: StageFolder) -> None:
    """On a full disk, nobody begins; the job waits until somebody has freed some, or its time is over."""
    said = False
    while True:
        needed, free = room_to_try(folder)
        if free >= needed:
            return
        if not said:
            print(
                f"{folder.path}: waits for room on the disk, {needed / 1e6:.0f} MB; {free / 1e6:.0f} are free",
                flush=True,
            )
            said = True
        signals.check()
        time.sleep(ROOM_SECONDS)


def job_name() -> str:
    """This job as `<array>_<index>.<restarts>`: another time that SLURM starts it is another attempt."""
    variables = os.environ
    restarts = variables.get("SLURM_RESTART_COUNT", "0")
    return f"{variables['SLURM_ARRAY_JOB_ID']}_{variables['SLURM_ARRAY_TASK_ID']}.{restarts}"


def is_cancelled(folder: StageFolder) -> bool:
    """Whether `scaling cancel` was the last that the user said of this stage."""
    return cancel_mark(folder).exists()


def cancel_mark(folder: StageFolder) -> Path:
    """The file by which jobs know that nobody should try."""
    return folder.path / "CANCELLED"
