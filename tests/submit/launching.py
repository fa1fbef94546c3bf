"""What the tests of submitting share: a clock, stages, a launcher, and what the imitated SLURM has in its queue."""

import pickle
import time
from collections import Counter
from pathlib import Path

from scaling.accounting.presets import VAE_PRESETS
from scaling.core.specs import DataSpec, VAETrainSpec, WorldSpec
from scaling.core.stage import Stage
from scaling.core.stage_fields import DataFields, VAEFields
from slurm.arrays import StageJob
from slurm.cluster import load_cluster
from slurm.scheduler import Scheduler
from slurm.submit import Launcher


class Clock:
    """Seconds since the epoch, which pass only while something sleeps."""

    def __init__(self):
        self.now, self.alarms = 1_800_000_000.0, []

    def __call__(self):
        return self.now

    def sleep(self, seconds):
        self.now += seconds
        for alarm in [alarm for alarm in self.alarms if alarm[0] <= self.now]:
            self.alarms.remove(alarm)
            alarm[1]()


def data_stage(number: int) -> Stage:
    return Stage(slug="data", fields=DataFields(data=DataSpec(worlds=WorldSpec(seed=number, count=2))), parents={})


def jobs_of(count, gpus=1):
    """A stage, and `count` stages that wait for it."""
    first = data_stage(0)
    fields = [VAEFields(vae=VAE_PRESETS["tiny"], train=VAETrainSpec(seed=seed)) for seed in range(count)]
    others = [Stage(slug="vae", fields=fields_of_stage, parents={"data": first.id}) for fields_of_stage in fields]
    return [StageJob(first, 0, 0.1, 0.0), *(StageJob(stage, gpus, 0.5, 0.5 * gpus) for stage in others)]


def launcher(out, clock=time.time, *, timeout=3600.0, call_timeout=20.0, sleep=None, **changes):
    cluster = load_cluster("testbed").replace(**changes)
    scheduler = Scheduler(out / "slurm", clock=clock, timeout=call_timeout)
    wait = sleep or getattr(clock, "sleep", time.sleep)
    return Launcher(out, cluster, scheduler, sleep=wait, timeout=timeout)


def queued_stages(slurm, out):
    """How often each stage is in the queue, by the paths in the pickles of the jobs there."""
    counts = Counter()
    for job in slurm.jobs():
        if job.state in ("PENDING", "RUNNING"):
            submitted = pickle.loads((Path(job.script).parent / f"{job.index}.pkl").read_bytes())  # our own
            counts[Path(submitted.args[0]).name] += 1
    return counts


def expected(jobs, out):
    """Every stage once, and the controller and the patrol job, which get the output folder."""
    return Counter({**{job.stage.id: 1 for job in jobs}, out.name: 2})
