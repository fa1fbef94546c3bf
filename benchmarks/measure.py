"""Times, FLOPs and memory of contenders that do the same work. It knows no model.

Machines are noisy, so nothing is timed alone: contenders take turns inside one process, and a ratio is the median of
the ratios of neighboring turns. Memory of a CPU process never falls, so there each contender has a process of its own.
"""

import multiprocessing
import resource
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import numpy as np
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

MIN_ROUNDS = 5
"""Turns of each contender, however long one takes."""
WARM_UP = 2
"""Untimed calls before the first turn, and before memory is read."""
CEILING_SIZES = {"cpu": (512, 1024, 2048), "cuda": (4096, 8192, 16384)}
"""Rows and columns of the matrices whose products are the ceiling."""


@dataclass(frozen=True)
class Contender:
    """One way to do a piece of work: `step()` does it once, from start to end."""

    name: str
    step: Callable[[], object]
    params: int
    units: int
    """Useful tokens, or pixels of a VAE, that one step handles."""
    flops: float | None = None
    """FLOPs of the useful work of a step; where None, those that torch counts in one."""


Build = Callable[[torch.device], Contender]
"""Makes a contender on a device. Picklable, so that a fresh process can make it too."""


@dataclass(frozen=True)
class Timing:
    """What the turns of one contender took, in seconds, in the order of the rounds."""

    seconds: tuple[float, ...]

    @property
    def median(self) -> float:
        return median(self.seconds)

    @property
    def spread(self) -> tuple[float, float]:
        """Quartiles, in seconds."""
        low, high = np.quantile(self.seconds, (0.25, 0.75))
        return float(low), float(high)

    def slower_than(self, other: "Timing") -> tuple[float, float, float]:
        """Lower quartile, median and upper quartile over the rounds of our time by the other's of the same round."""
        ratios = np.array(self.seconds) / np.array(other.seconds)
        low, middle, high = np.quantile(ratios, (0.25, 0.5, 0.75))
        return float(low), float(middle), float(high)


def take_turns(steps: Sequence[Callable[[], object]], device: torch.device, budget: float) -> list[Timing]:
    """Calls the steps in turn, each round in another order, for about `budget` seconds, at least MIN_ROUNDS rounds."""
    for step in steps:
        for _ in range(WARM_UP):
            step()
    durations: list[list[float]] = [[] for _ in steps]
    end = time.perf_counter() + budget
    for round_ in range(10**9):
        if round_ >= MIN_ROUNDS and time.perf_counter() > end:
            break
        for position in range(len(steps)):
            index = (position + round_) % len(steps)
            durations[index].append(_seconds(steps[index], device))
    return [Timing(tuple(seconds)) for seconds in durations]


def _seconds(step: Callable[[], object], device: torch.device) -> float:
    _wait(device)
    began = time.perf_counter()
    step()
    _wait(device)
    return time.perf_counter() - began


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def matmul_ceiling(device: torch.device, dtype: torch.dtype) -> float:
    """FLOP/s of the fastest of a few square matrix products: what this machine does where nothing stands in the way."""
    fastest = 0.0
    for size in CEILING_SIZES[device.type]:
        left, right = torch.randn(2, size, size, device=device).to(dtype)
        (timing,) = take_turns([lambda left=left, right=right: left @ right], device, budget=0.5)
        fastest = max(fastest, 2 * size**3 / timing.median)
    return fastest


def count_flops(step: Callable[[], object]) -> float:
    """FLOPs of matrix products and convolutions in one step, as torch counts them. The fused attention kernels of a CPU
    are not in its list, and those of a GPU recompute: attention runs as plain products while it counts."""
    with FlopCounterMode(display=False) as counter, sdpa_kernel(SDPBackend.MATH):
        step()
    return float(counter.get_total_flops())


def peak_memory(build: Build, device: torch.device, threads: int) -> int:
    """Bytes that a contender holds at its peak, weights and optimizer included: on a GPU what torch allocates, on a CPU
    how far the resident memory of a fresh process rises above where it stood after the imports."""
    if device.type == "cuda":
        torch.cuda.empty_cache()
        before = torch.cuda.memory_allocated(device)
        torch.cuda.reset_peak_memory_stats(device)
        contender = build(device)
        for _ in range(WARM_UP):
            contender.step()
        return torch.cuda.max_memory_allocated(device) - before
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        return pool.submit(_rise, build, threads).result()


def _rise(build: Build, threads: int) -> int:
    torch.set_num_threads(threads)
    before = _peak_resident()
    contender = build(torch.device("cpu"))
    for _ in range(WARM_UP):
        contender.step()
    return _peak_resident() - before


def _peak_resident() -> int:
    """Bytes. Linux hands `ru_maxrss` down from the parent process, so there the process's own peak is read."""
    status = Path("/proc/self/status")
    if status.exists():
        line = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM:"))
        return 1024 * int(line.split()[1])
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
