"""The text of a job array's batch script: Submitit's script, extended so that a job survives faults. Submits nothing.

Before Submitit's command, the script links the pickle of the task to the name that Submitit looks for: that name
contains the job's number, which was not known when the pickle was written, and the launcher may be dead by now. After
the command, it calls `scontrol requeue` if the exit code asks for it. This happens on the node, outside of any
container.
"""

import shlex
import sys
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from submitit.core.utils import DelayedSubmission
from submitit.slurm.slurm import _make_sbatch_string

from slurm.cluster import SlurmCluster
from slurm.worker import DEADLINE_VARIABLE, GPUS_VARIABLE, REQUEUE

SLACK_SECONDS = 60
"""SLURM may send the signal before the time limit so many seconds earlier than asked."""
REQUEUE_TRIES = 10
"""Number of times that a job calls `scontrol requeue` where SLURM does not answer."""
MOST_RESTARTS = 20
"""Number of times that a job requeues itself; after that, the controller job submits the stage again."""


@dataclass(frozen=True)
class Resources:
    """What a job asks SLURM for. All jobs of an array ask for the same."""

    gpus: int
    """Number of GPUs; 0 makes it a light job (`slurm.cluster.LightSpec`)."""
    nodes: int
    minutes: int
    """Time limit in minutes."""

    @classmethod
    def for_job(cls, cluster: SlurmCluster, gpus: int, hours: float) -> "Resources":
        """The resources of a job on `gpus` GPUs that is expected to take `hours`. Time limits are generous, and one of
        a few values, so that many jobs fit in one array."""
        minutes = 10.0
        while minutes < 1.5 * 60 * hours + 10:
            minutes *= 2
        nodes = max(1, -(-gpus // cluster.gpus_per_node))
        return cls(gpus, nodes, int(min(minutes, 60 * cluster.hours_limit)))

    @property
    def tasks_per_node(self) -> int:
        """Number of tasks on a node: one for each GPU, or one where there are none."""
        return max(1, self.gpus // self.nodes)


@dataclass(frozen=True)
class JobArray:
    """A job array: the same resources for every index."""

    name: str
    """Name of the jobs. An array whose number is not known is found by it."""
    resources: Resources
    size: int
    throttle: int
    """Number of jobs that may run at a time."""
    after: tuple[str, ...]
    """Numbers of the arrays that it waits for, however their jobs end."""
    delay_minutes: int = 0
    """Minutes that have to pass before it starts."""


def script(array: JobArray, cluster: SlurmCluster, folder: Path) -> str:
    """The text of the batch script. `folder` will hold the script, the pickles and the logs."""
    resources, light = array.resources, cluster.light
    seconds = 60 * resources.minutes
    deadline = max(0, seconds - cluster.warn_seconds - SLACK_SECONDS)
    pickle, name = "${SLURM_ARRAY_TASK_ID}.pkl", "${SLURM_ARRAY_JOB_ID}_${SLURM_ARRAY_TASK_ID}_submitted.pkl"
    quoted = shlex.quote(str(folder))
    gpu = resources.gpus > 0
    cpus = cluster.cpus_per_gpu if gpu else light.cpus
    memory = cluster.mem_gb_per_gpu and cluster.mem_gb_per_gpu * resources.tasks_per_node if gpu else light.mem_gb
    gpus = f"{cluster.gpu_type}:{resources.tasks_per_node}" if cluster.gpu_type else str(resources.tasks_per_node)
    gpus_per_node = gpus if gpu else None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return _make_sbatch_string(
            command=f"{shlex.quote(cluster.python or sys.executable)} -u -m submitit.core._submit {quoted}",
            folder=folder,
            job_name=array.name,
            map_count=array.size,
            array_parallelism=array.throttle,
            partition=cluster.partition if gpu else light.partition or cluster.partition,
            account=cluster.account,
            qos=cluster.qos,
            constraint=cluster.constraint if gpu else None,
            time=resources.minutes,
            nodes=resources.nodes,
            ntasks_per_node=resources.tasks_per_node,
            cpus_per_task=cpus,
            gpus_per_node=gpus_per_node,  # type: ignore[arg-type] # Submitit says int, but sbatch takes a type as well
            mem=f"{round(1024 * memory)}M" if memory else None,
            signal_delay_s=cluster.warn_seconds,
            dependency=f"afterany:{':'.join(array.after)}" if array.after else None,
            wckey=None,  # type: ignore[arg-type] # clusters without Submitit's wckey would refuse it
            additional_parameters=_additional(cluster, array.delay_minutes),
            # Before SLURM 23.11 srun does not inherit the CPUs of a task. Without --wait=0 SLURM would kill the first
            # rank, which still measures when the others have ended.
            srun_args=[f"--cpus-per-task={cpus}", "--kill-on-bad-exit=1", "--wait=0", *cluster.srun_args],
            setup=[
                "trap : TERM  # the tasks receive it too, and this script has to run until they have ended",
                f"ln -sf {quoted}/{pickle} {quoted}/{name}",
                f"export {GPUS_VARIABLE}={resources.gpus}",
                f"export {DEADLINE_VARIABLE}=$(( $(date +%s) + {deadline} ))",
                *cluster.setup,
            ],
            teardown=_requeue(),
        )


def _additional(cluster: SlurmCluster, delay_minutes: int) -> dict[str, Any]:
    extra: dict[str, Any] = {"requeue": True}
    if delay_minutes:
        extra["begin"] = f"now+{delay_minutes}minutes"
    if cluster.reservation:
        extra["reservation"] = cluster.reservation
    return extra


def _requeue() -> list[str]:
    return [
        "code=$?",
        "job=${SLURM_ARRAY_JOB_ID}_${SLURM_ARRAY_TASK_ID}  # SLURM_JOB_ID of the last index is the whole array",
        f'if [ "$code" -eq {REQUEUE} ] || [ "$code" -ge 128 ]; then',
        f"  for try in $(seq {REQUEUE_TRIES}); do",
        '    state=$(scontrol show job --oneliner "$job") || { sleep 15; continue; }',
        "    case $state in",
        f'      *JobState=RUNNING*) [ "${{SLURM_RESTART_COUNT:-0}}" -ge {MOST_RESTARTS} ] ||',
        '        scontrol requeue "$job" || { sleep 15; continue; } ;;',
        "    esac",
        "    break  # requeued; or preempted or cancelled, and then SLURM decides what comes next",
        "  done",
        "fi",
        'exit "$code"',
    ]


def write(text: str, folder: Path, function: Callable[[str], object], paths: list[Path]) -> Path:
    """Writes the script and a pickle for every index of the array, which calls `function` with a path. Returns the path
    of the script. Only the user who submits can read the folder."""
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    for index, path in enumerate(paths):
        DelayedSubmission(function, str(path)).dump(folder / f"{index}.pkl")
    file = folder / "batch.sh"
    file.write_text(text, encoding="utf-8")
    return file
