"""Cuts stages into job arrays: equal resources, parents first, no longer or wider than allowed."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from scaling.core.stage import Stage
from slurm.batch import Array, Resources
from slurm.cluster import SlurmCluster
from slurm.submissions import new_name


@dataclass(frozen=True)
class Job:
    """A stage and what it is expected to need."""

    stage: Stage
    gpus: int
    hours: float
    """Its time limit goes by this."""
    gpu_hours: float
    """The budget goes by this."""

    @cached_property
    def id(self) -> str:
        return self.stage.id

    def placed(self, cluster: SlurmCluster) -> Stage:
        """The stage with an engine for its job: a rank for each GPU."""
        engine = {"processes": max(1, self.gpus), "threads": cluster.cpus_per_gpu if self.gpus else cluster.light.cpus}
        return self.stage.model_copy(update={"engine": self.stage.engine.model_copy(update=engine)})


def cut(
    sweep_name: str, jobs: Sequence[Job], cluster: SlurmCluster, size: int, numbers: Mapping[str, str]
) -> Iterator[tuple[Array, list[Job]]]:
    """Arrays of at most `size` jobs, in the order in which they can be submitted. Before the next one is asked for,
    `numbers` has the array of every stage of those before, as it has that of every stage in the queue.

    Classes that wait for the same things run at the same time, and share the cluster's `max_gpus`. Where one class
    fills several arrays, they share its part, and what is too much waits for an array before it.
    """
    depth: dict[str, int] = {}
    classes: dict[tuple[int, Resources], list[Job]] = {}
    wanted: dict[int, int] = {}
    for job in jobs:
        level = 1 + max((depth.get(parent, -1) for parent in job.stage.parents.values()), default=-1)
        depth[job.id], wanted[level] = level, wanted.get(level, 0) + job.gpus
        classes.setdefault((level, Resources.of(cluster, job.gpus, job.hours)), []).append(job)
    for (level, resources), members in sorted(classes.items(), key=lambda item: item[0][0]):
        at_a_time = len(members)
        if resources.gpus:
            share = len(members) * resources.gpus / wanted[level]
            at_a_time = max(1, int(share * cluster.max_gpus) // resources.gpus)
        chunks = [members[first : first + size] for first in range(0, len(members), size)]
        lanes = min(at_a_time, len(chunks))
        latest: dict[int, str] = {}
        for number, chunk in enumerate(chunks):
            lane = number % lanes
            throttle = min(len(chunk), at_a_time // lanes + (lane < at_a_time % lanes))
            after = {numbers[parent] for job in chunk for parent in job.stage.parents.values() if parent in numbers}
            after |= {latest[lane]} if lane in latest else set()
            yield Array(new_name(sweep_name), resources, len(chunk), throttle, tuple(sorted(after))), chunk
            if chunk[0].id in numbers:
                latest[lane] = numbers[chunk[0].id]
