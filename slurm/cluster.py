"""The description of a cluster, read from YAML: what its jobs ask SLURM for, and what its GPUs can do. Does not ask the
scheduler: `slurm.preflight` checks the description against the cluster before anything is submitted.
"""

from importlib.resources import files
from pathlib import Path
from typing import Literal, Self

from pydantic import Field, model_validator

from scaling.core.errors import UserError
from scaling.core.specs import Spec, load_yaml, parse_spec
from sweeps.planning.capacity import Capacity


class LightSpec(Spec):
    """The jobs without a GPU, such as those that make data, and the controller job of the sweep."""

    partition: str | None = None
    """Partition of jobs without a GPU; the cluster's `partition` where none is given."""
    cpus: int = Field(2, ge=1)
    """Number of CPUs of a job without a GPU."""
    mem_gb: float | None = Field(None, gt=0)
    """Memory of a job without a GPU in GB; the cluster's default where none is given."""


class SlurmCluster(Spec):
    """A SLURM cluster. A job has one task for each of its GPUs."""

    kind: Literal["slurm"] = "slurm"
    name: str = Field(pattern=r"^[a-z0-9][a-z0-9_.-]*$")
    """Name of the cluster, for messages."""
    partition: str | None = None
    """Partition of jobs with GPUs; the cluster's default where none is given."""
    account: str | None = None
    """Account that the jobs are charged to."""
    qos: str | None = None
    """Quality of service of the jobs."""
    constraint: str | None = None
    """Features that a node must have, as for `sbatch --constraint`."""
    reservation: str | None = None
    """Reservation that the jobs use."""
    gpus_per_node: int = Field(ge=1)
    """Number of GPUs of a node."""
    gpu_type: str | None = None
    """SLURM's name of the GPUs, such as `h100`, where a cluster has several kinds."""
    cpus_per_gpu: int = Field(1, ge=1)
    """Number of CPUs of a task, which has one GPU."""
    mem_gb_per_gpu: float | None = Field(None, gt=0)
    """Memory of a task in GB; the cluster's default where none is given."""
    light: LightSpec = LightSpec()
    """Jobs without a GPU."""
    max_nodes: int = Field(1, ge=1)
    """Largest number of nodes of one run."""
    max_gpus: int = Field(ge=1)
    """Largest number of GPUs of all running jobs of a sweep together."""
    hours_limit: float = Field(24.0, gt=0)
    """Longest job, in hours, that the partition or QOS allows. A longer run continues in another job."""
    hours_per_run: float = Field(24.0, gt=0)
    """Hours that a run should take at most: the number of its GPUs is doubled until it does."""
    max_array_size: int | None = Field(None, ge=1)
    """Largest number of jobs in an array; the scheduler's MaxArraySize where none is given."""
    peak_flops: float = Field(989.4e12, gt=0)
    """Peak FLOP/s of one GPU."""
    utilization: float = Field(0.35, gt=0, le=1)
    """Share of the peak that training is assumed to reach until finished runs have measured it."""
    price_per_gpu_hour: float = Field(0.0, ge=0)
    """Price of one GPU-hour in US dollars."""
    warn_seconds: int = Field(120, ge=10)
    """Seconds before its time limit at which a job is signalled to save and stop (`sbatch --signal`)."""
    setup: tuple[str, ...] = ()
    """Shell lines of the batch script before the work, such as `module load cuda`."""
    srun_args: tuple[str, ...] = ()
    """Options of srun, for example for a container: `--container-image=...`, `--container-mounts=...`."""
    python: str | None = None
    """Path of the Python that has this package, inside the container; the Python that submits where none is given."""

    @model_validator(mode="after")
    def _room_for_a_run(self) -> Self:
        if self.max_gpus < self.gpus_per_run:
            raise ValueError(
                f"max_gpus is {self.max_gpus}, but max_nodes x gpus_per_node lets one run take {self.gpus_per_run}: "
                "raise it, or lower max_nodes"
            )
        return self

    @property
    def gpus_per_run(self) -> int:
        """Largest number of GPUs of one run."""
        return self.max_nodes * self.gpus_per_node

    def capacity(self) -> Capacity:
        """The facts that a plan needs."""
        return Capacity(
            flops_per_gpu=self.peak_flops * self.utilization,
            peak_flops=self.peak_flops,
            gpus_per_node=self.gpus_per_node,
            gpus_per_run=self.gpus_per_run,
            gpus=self.max_gpus,
            hours_per_run=self.hours_per_run,
            price_per_gpu_hour=self.price_per_gpu_hour,
        )


class LocalCluster(Spec):
    """This machine, as the sweep's `hardware` section describes it, without a scheduler."""

    kind: Literal["local"]
    name: str = "local"


def load_cluster(name_or_path: str) -> SlurmCluster | LocalCluster:
    """Reads a cluster from a YAML file, or a shipped one by its name. Raises UserError, which names the file and the
    field."""
    path = Path(name_or_path)
    shipped = {
        Path(entry.name).stem: entry
        for entry in (files("slurm") / "clusters").iterdir()
        if entry.name.endswith(".yaml")
    }
    if name_or_path in shipped:
        path = Path(str(shipped[name_or_path]))
    elif not path.suffix and not path.is_file():
        raise UserError(f"{name_or_path}: no such cluster; shipped ones: {', '.join(sorted(shipped))}, or give a file")
    document = load_yaml(path)
    if not isinstance(document, dict):
        raise UserError(f"{path}: expected a mapping of fields")
    kind = document.get("kind", "slurm")
    if kind not in ("slurm", "local"):
        raise UserError(f"{path}: kind: '{kind}' is neither 'slurm' nor 'local'")
    if kind == "local":
        return parse_spec(LocalCluster, document, str(path))
    return parse_spec(SlurmCluster, document, str(path))
