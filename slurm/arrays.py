"""Divides stages into job arrays: equal resources in each, parents first, no array longer or wider than allowed."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from scaling.core.stage import Stage
from slurm.batch import JobArray, Resources
from slurm.cluster import SlurmCluster
from slurm.submissions import new_name


@dataclass(frozen=True)
class StageJob:
    """A stage and the resources that its job is expected to need."""

    stage: Stage
    gpus: int
    hours: float
    """Expected hours of the job, from which its time limit follows."""
    gpu_hours: float
    """Expected GPU-hours, which count against the budget."""

    @cached_property
    def id(self) -> str:
        return self.stage.id

    def placed(self, cluster: SlurmCluster) -> Stage:
        """The stage with the engine of this job: one rank for each GPU."""
        engine = {"processes": max(1, self.gpus), "threads": cluster.cpus_per_gpu if self.gpus else cluster.light.cpus}
        return self.stage.replace(engine=self.stage.engine.replace(**engine))


def into_arrays(
    sweep_name: str, jobs: Sequence[StageJob], cluster: SlurmCluster, size: int, arrays: Mapping[str, str]
) -> Iterator[tuple[JobArray, list[StageJob]]]:
    """Arrays of at most `size` jobs, in the order in which they can be submitted. `arrays` gives the number of the
    array of every stage in the queue; the caller adds those of an array's stages before it asks for the next array.

    Jobs that wait for the same stages run at the same time and share the cluster's `max_gpus`, a group of equal
    resources in proportion to its GPUs. Where a group fills several arrays, they divide its share, and arrays beyond
    the share wait for an array before them.
    """
    level_of: dict[str, int] = {}
    groups: dict[tuple[int, Resources], list[StageJob]] = {}
    gpus_of_level: dict[int, int] = {}
    for job in jobs:
        level = 1 + max((level_of.get(parent, -1) for parent in job.stage.parents.values()), default=-1)
        level_of[job.id], gpus_of_level[level] = level, gpus_of_level.get(level, 0) + job.gpus
        groups.setdefault((level, Resources.for_job(cluster, job.gpus, job.hours)), []).append(job)
    for (level, resources), members in sorted(groups.items(), key=lambda item: item[0][0]):
        at_a_time = len(members)
        if resources.gpus:
            share = len(members) * resources.gpus / gpus_of_level[level]
            at_a_time = max(1, int(share * cluster.max_gpus) // resources.gpus)
        chunks = [members[first : first + size] for first in range(0, len(members), size)]
        lanes = min(at_a_time, len(chunks))
        latest_of_lane: dict[int, str] = {}
        for number, chunk in enumerate(chunks):
            lane = number % lanes
            throttle = min(len(chunk), at_a_time // lanes + (lane < at_a_time % lanes))
            after = {arrays[parent] for job in chunk for parent in job.stage.parents.values() if parent in arrays}
            after |= {latest_of_lane[lane]} if lane in latest_of_lane else set()
            yield JobArray(new_name(sweep_name), resources, len(chunk), throttle, tuple(sorted(after))), chunk
            if chunk[0].id in arrays:
                latest_of_lane[lane] = arrays[chunk[0].id]
