"""A cluster: what its jobs ask of SLURM and what its GPUs can do. Read from YAML. Asks the scheduler nothing.

Whether the cluster really has that partition and so many GPUs, `slurm.preflight` finds out before it submits anything.
"""

from importlib.resources import files
from pathlib import Path
from typing import Literal, Self

from pydantic import Field, model_validator

from scaling.core.errors import UserError
from scaling.core.specs import Spec, load_yaml, parse_spec
from sweeps.planning.capacity import Capacity


class LightSpec(Spec):
    """Jobs without a GPU: making data, and the steering of the sweep itself."""

    partition: str | None = None
    """The cluster's, if none is given."""
    cpus: int = Field(2, ge=1)
    mem_gb: float | None = Field(None, gt=0)


class SlurmCluster(Spec):
    """A SLURM cluster whose jobs have one task for each GPU."""

    kind: Literal["slurm"] = "slurm"
    name: str = Field(pattern=r"^[a-z0-9][a-z0-9_.-]*$")
    partition: str | None = None
    account: str | None = None
    qos: str | None = None
    constraint: str | None = None
    """Features that a node must have, as for `sbatch --constraint`."""
    reservation: str | None = None
    gpus_per_node: int = Field(ge=1)
    gpu_type: str | None = None
    """Name of the GPUs where a cluster has several kinds, such as `h100`."""
    cpus_per_gpu: int = Field(1, ge=1)
    """CPUs of a task."""
    mem_gb_per_gpu: float | None = Field(None, gt=0)
    """Memory of the node for a task; None takes what the cluster gives."""
    light: LightSpec = LightSpec()
    max_nodes: int = Field(1, ge=1)
    """Of one run."""
    max_gpus: int = Field(ge=1)
    """Of all running jobs of a sweep together."""
    hours_limit: float = Field(24.0, gt=0)
    """Longest job that the partition or QOS allows; a longer run goes on in another attempt."""
    hours_per_run: float = Field(24.0, gt=0)
    """A run gets twice the GPUs as long as it would take longer than that."""
    max_array_size: int | None = Field(None, ge=1)
    """Most jobs in an array; None asks the scheduler for its MaxArraySize."""
    peak_flops: float = Field(989.4e12, gt=0)
    """FLOP/s of one GPU."""
    utilisation: float = Field(0.35, gt=0, le=1)
    """Share of the peak that training reaches: hoped for, until finished runs have measured it."""
    price_per_gpu_hour: float = Field(0.0, ge=0)
    """US dollars."""
    warn_seconds: int = Field(120, ge=10)
    """How long before its time limit a job is told to save and make way (`sbatch --signal`)."""
    setup: tuple[str, ...] = ()
    """Shell lines before the work, such as `module load cuda`."""
    srun_args: tuple[str, ...] = ()
    """For example a container: `--container-image=...`, `--container-mounts=...`."""
    python: str | None = None
    """Python with this package, inside the container; None takes the one that submits."""

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
        """At most."""
        return self.max_nodes * self.gpus_per_node

    def capacity(self) -> Capacity:
        """What a plan has to know of it."""
        return Capacity(
            flops_per_gpu=self.peak_flops * self.utilisation,
            peak_flops=self.peak_flops,
            gpus_per_node=self.gpus_per_node,
            gpus_per_run=self.gpus_per_run,
            gpus=self.max_gpus,
            hours_per_run=self.hours_per_run,
            price_per_gpu_hour=self.price_per_gpu_hour,
        )


class LocalCluster(Spec):
    """This machine, as the sweep's own `hardware` section describes it; nothing is asked of a scheduler."""

    kind: Literal["local"]
    name: str = "local"


def load_cluster(name_or_path: str) -> SlurmCluster | LocalCluster:
    """A cluster from a YAML file, or a shipped one by its name. Raises UserError naming the file and the field."""
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
