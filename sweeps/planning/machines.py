"""Where a stage would run: its GPUs, its speed, its price per hour. On a cluster, or on the machine that a sweep's own
`hardware` section describes. Speeds are assumed where no finished run has measured them. No torch."""

from dataclasses import dataclass
from typing import Protocol

from scaling.core.stage import Stage
from sweeps.hardware import HardwareSpec
from sweeps.planning.capacity import Capacity

TRAINING = ("vae", "trunk", "dit")
"""Kinds of stages that all GPUs of a job work on; one works on the others, and none on the data."""


@dataclass(frozen=True)
class Placement:
    """One stage on a machine."""

    gpus: int
    """0 for a CPU job."""
    taken: int
    """Of the machine's places, while it runs."""
    training_speed: float
    """FLOP/s of all its devices together."""
    single_speed: float
    """FLOP/s of one process that does not train: assumed to be a training's."""
    price_per_hour: float
    """US dollars."""


class Machine(Protocol):
    """What a plan asks of a machine."""

    @property
    def device(self) -> str:
        """`cuda` or `cpu`, as records have it: what was measured on another prices nothing here."""

    @property
    def places(self) -> int:
        """Taken by all running stages together, at most."""

    def place(self, stage: Stage, spent_flops: float, measured: float | None) -> Placement:
        """`measured` is the FLOP/s of one device, a GPU or a core, in a training like this one."""


@dataclass(frozen=True)
class Cluster:
    """A place is a GPU. CPU jobs take none, cost nothing, and as many run as there are."""

    capacity: Capacity

    @property
    def device(self) -> str:
        return "cuda"

    @property
    def places(self) -> int:
        return self.capacity.gpus

    def place(self, stage: Stage, spent_flops: float, measured: float | None) -> Placement:
        """The GPUs follow from the speed that the cluster's file states, whatever was measured: a run that goes on
        later gets as many as before."""
        speed = self.capacity.flops_per_gpu
        gpus = self.capacity.gpus_for(spent_flops) if stage.kind in TRAINING else 0 if stage.kind == "data" else 1
        return Placement(gpus, gpus, (measured or speed) * gpus, speed, gpus * self.capacity.price_per_gpu_hour)


@dataclass(frozen=True)
class OwnHardware:
    """A place is a job of the sweep's `jobs`. One with more threads than a small job takes the places of several."""

    hardware: HardwareSpec

    @property
    def device(self) -> str:
        return "cuda" if self.hardware.gpus else "cpu"

    @property
    def places(self) -> int:
        return self.hardware.jobs

    def place(self, stage: Stage, spent_flops: float, measured: float | None) -> Placement:
        hardware, threads = self.hardware, stage.engine.threads
        gpus = hardware.gpus if stage.kind in TRAINING else 0 if stage.kind == "data" else min(1, hardware.gpus)
        devices = gpus or stage.engine.cores
        return Placement(
            gpus=gpus,
            taken=min(hardware.jobs, max(1, threads // hardware.threads)),
            training_speed=measured * devices if measured else hardware.flops_per_second,
            single_speed=hardware.flops_per_second / max(1, hardware.gpus),
            price_per_hour=hardware.price_per_hour * (gpus if hardware.gpus else 1),
        )
