"""The machines that a plan can price: a cluster, or the machine that a sweep's own `hardware` section describes. Each
says how many GPUs a stage gets, its speed and its price per hour. No torch."""

from dataclasses import dataclass
from typing import Protocol

from scaling.core.stage import Stage
from sweeps.hardware import HardwareSpec
from sweeps.planning.capacity import Capacity

TRAINING = ("vae", "trunk", "dit")
"""Kinds of stages that use all GPUs of their job. Other stages use one GPU, and `data` none."""


@dataclass(frozen=True)
class Placement:
    """One stage on a machine."""

    gpus: int
    """Number of GPUs; 0 for a CPU job."""
    places_taken: int
    """Number of the machine's places that the stage takes while it runs."""
    training_speed: float
    """FLOP/s of all its devices together in training."""
    single_speed: float
    """FLOP/s of one process that does not train: assumed to be that of training."""
    price_per_hour: float
    """Price in US dollars."""


class Machine(Protocol):
    """What a plan needs to know of a machine."""

    @property
    def device(self) -> str:
        """`cuda` or `cpu`, as in records. Speeds that were measured on another device are not used."""

    @property
    def places(self) -> int:
        """Number of places that all running stages take together at most."""

    def place(self, stage: Stage, spent_flops: float, measured: float | None) -> Placement:
        """`measured` is the FLOP/s of one device, a GPU or a core, in a training like this one."""


@dataclass(frozen=True)
class Cluster:
    """A cluster, on which a place is a GPU. CPU jobs take no place and cost nothing."""

    capacity: Capacity

    @property
    def device(self) -> str:
        return "cuda"

    @property
    def places(self) -> int:
        return self.capacity.gpus

    def place(self, stage: Stage, spent_flops: float, measured: float | None) -> Placement:
        """The number of GPUs follows from the speed that the cluster's file states, whatever was measured, so that a
        run that is continued later gets as many as before."""
        speed = self.capacity.flops_per_gpu
        gpus = self.capacity.gpus_for(spent_flops) if stage.kind in TRAINING else 0 if stage.kind == "data" else 1
        return Placement(gpus, gpus, (measured or speed) * gpus, speed, gpus * self.capacity.price_per_gpu_hour)


@dataclass(frozen=True)
class OwnHardware:
    """The machine of a sweep's `hardware` section, on which a place is one of its `jobs`. A job with more threads than
    a small job takes several places."""

    hardware: HardwareSpec

    @property
    def device(self) -> str:
        return "cuda" if self.hardware.gpus else "cpu"

    @property
    def places(self) -> int:
        return self.hardware.jobs or 1

    def place(self, stage: Stage, spent_flops: float, measured: float | None) -> Placement:
        hardware = self.hardware
        gpus = hardware.gpus if stage.kind in TRAINING else 0 if stage.kind == "data" else min(1, hardware.gpus)
        devices = gpus or stage.engine.cores
        return Placement(
            gpus=gpus,
            places_taken=min(self.places, max(1, stage.engine.cores // hardware.threads)),
            training_speed=measured * devices if measured else hardware.flops_per_second,
            single_speed=hardware.flops_per_second / max(1, hardware.gpus),
            price_per_hour=hardware.price_per_hour * (gpus if hardware.gpus else 1),
        )
