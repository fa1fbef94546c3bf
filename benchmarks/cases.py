"""What is compared: every case with its contenders, for this kind of device. Nothing is built before it is measured."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal, get_args

from benchmarks import packing, transformer, vae
from benchmarks.measure import Build
from benchmarks.precision import Precision
from benchmarks.shapes import CPU_MIXES, CPU_SHAPES, CPU_VIDEOS, CUDA_MIXES, CUDA_SHAPES, CUDA_VIDEOS

Kind = Literal["training", "sampling", "packing", "encode", "decode"]
KINDS: tuple[Kind, ...] = get_args(Kind)


@dataclass(frozen=True)
class Case:
    """One piece of work and who does it. The first contender is ours."""

    kind: Kind
    shape: str
    precision: Precision
    contenders: dict[str, Build]

    @property
    def unit(self) -> str:
        """What is counted per second."""
        return "pixels" if self.kind in ("encode", "decode") else "tokens"


def cases(kinds: tuple[Kind, ...], precisions: tuple[Precision, ...], device: str) -> Iterator[Case]:
    """In the order in which they are reported. device: `cpu` or `cuda`, which decides the sizes."""
    shapes, mixes, videos = {
        "cpu": (CPU_SHAPES, CPU_MIXES, CPU_VIDEOS),
        "cuda": (CUDA_SHAPES, CUDA_MIXES, CUDA_VIDEOS),
    }[device]
    for kind in kinds:
        for precision in precisions:
            if kind == "packing":
                for mix in mixes:
                    yield Case(kind, mix.name, precision, packing.contenders(mix, precision))
            elif kind in ("encode", "decode"):
                for video in videos:
                    yield Case(kind, video.name, precision, vae.contenders(kind, video, precision))
            else:
                for shape in shapes:
                    yield Case(kind, shape.name, precision, transformer.contenders(kind, shape, precision, device))
