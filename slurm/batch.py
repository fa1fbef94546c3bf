"""The text of a job array's batch script: Submitit's, with what makes a job survive around it. Submits nothing.

Around Submitit's command it puts: the pickle of a task under the name that Submitit looks for, because the job's number
was not known when it was written, and whoever submitted it may be dead; and, after the work, `scontrol requeue`, on the
node and outside of any container, where the exit code asks for it.
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
from slurm.worker import AGAIN, DUE, GPUS

SLACK_SECONDS = 60
"""SLURM may send its warning so much earlier than asked."""
REQUEUE_TRIES = 10
MOST_RESTARTS = 20
"""Of one job by its own word; then it takes the steering job to submit the stage again."""


@dataclass(frozen=True)
class Resources:
    """What a job asks for: the class that arrays are made of."""

    gpus: int
    """0 asks for a light job."""
    nodes: int
    minutes: int
    """Time limit."""

    @classmethod
    def of(cls, cluster: SlurmCluster, gpus: int, hours: float) -> "Resources":
        """For a run on so many GPUs that should take so many hours: time to spare, in few classes."""
        minutes = 10.0
        while minutes < 1.5 * 60 * hours + 10:
            minutes *= 2
        nodes = max(1, -(-gpus // cluster.gpus_per_node))
        return cls(gpus, nodes, int(min(minutes, 60 * cluster.hours_limit)))

    @property
    def tasks_per_node(self) -> int:
        """One for each GPU of the node, or one."""
        return max(1, self.gpus // self.nodes)


@dataclass(frozen=True)
class Array:
    """A job array: the same resources for every index."""

    name: str
    """The job's; by it an array is found again whose number nobody was told."""
    resources: Resources
    size: int
    throttle: int
    """Indices at a time."""
    after: tuple[str, ...]
    """Numbers of the jobs that it waits for, however they end."""
    delay_minutes: int = 0
    """It does not start before."""


def script(array: Array, cluster: SlurmCluster, folder: Path) -> str:
    """The batch script. `folder` will hold the script, the pickles and the logs."""
    resources, light = array.resources, cluster.light
    seconds = 60 * resources.minutes
    due = max(0, seconds - cluster.warn_seconds - SLACK_SECONDS)
    pickle, name = "${SLURM_ARRAY_TASK_ID}.pkl", "${SLURM_ARRAY_JOB_ID}_${SLURM_ARRAY_TASK_ID}_submitted.pkl"
    where = shlex.quote(str(folder))
    gpu = resources.gpus > 0
    cpus = cluster.cpus_per_gpu if gpu else light.cpus
    memory = cluster.mem_gb_per_gpu and cluster.mem_gb_per_gpu * resources.tasks_per_node if gpu else light.mem_gb
    count = str(resources.tasks_per_node)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return _make_sbatch_string(
            command=f"{shlex.quote(cluster.python or sys.executable)} -u -m submitit.core._submit {where}",
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
            gpus_per_node=(f"{cluster.gpu_type}:{count}" if cluster.gpu_type else count) if gpu else None,  # type: ignore
            mem=f"{round(1024 * memory)}M" if memory else None,
            signal_delay_s=cluster.warn_seconds,
            dependency=f"afterany:{':'.join(array.after)}" if array.after else None,
            wckey=None,  # type: ignore[arg-type] # Submitit's own is refused by clusters that do not know it
            additional_parameters=_additional(cluster, array.delay_minutes),
            # before SLURM 23.11 srun does not inherit the CPUs of a task; ranks end while the first one still measures
            srun_args=[f"--cpus-per-task={cpus}", "--kill-on-bad-exit=1", "--wait=0", *cluster.srun_args],
            setup=[
                "trap : TERM  # the tasks hear it as well, and this script has to outlive them",
                f"ln -sf {where}/{pickle} {where}/{name}",
                f"export {GPUS}={resources.gpus}",
                f"export {DUE}=$(( $(date +%s) + {due} ))",
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
        "me=${SLURM_ARRAY_JOB_ID}_${SLURM_ARRAY_TASK_ID}  # SLURM_JOB_ID of an array's last index is the whole array",
        f'if [ "$code" -eq {AGAIN} ] || [ "$code" -ge 128 ]; then',
        f"  for try in $(seq {REQUEUE_TRIES}); do",
        '    state=$(scontrol show job --oneliner "$me") || { sleep 15; continue; }',
        "    case $state in",
        f'      *JobState=RUNNING*) [ "${{SLURM_RESTART_COUNT:-0}}" -ge {MOST_RESTARTS} ] ||',
        '        scontrol requeue "$me" || { sleep 15; continue; } ;;',
        "    esac",
        "    break  # preempted or cancelled: then it is SLURM's to say what comes next",
        "  done",
        "fi",
        'exit "$code"',
    ]


def write(text: str, folder: Path, function: Callable[[str], Any], paths: list[Path]) -> Path:
    """Writes the script and, for every index, the pickle with its path. Returns the script's path."""
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    for index, path in enumerate(paths):
        DelayedSubmission(function, str(path)).dump(folder / f"{index}.pkl")
    file = folder / "batch.sh"
    file.write_text(text)
    return file
