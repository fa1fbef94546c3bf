"""Measures in which precision a processor trains faster: a few updates of two trainings in bfloat16 and in float32.

    python -m scaling.training.precision_probe < probe.json

Reads a `PrecisionProbe` and prints seconds by precision. A process of its own, because the number of threads is set
once, and because whoever asks imports no torch.
"""

import json
import math
import sys
import time
from collections.abc import Callable
from statistics import median
from typing import get_args

import torch

from scaling.core.precision import using_precision
from scaling.core.precision_probe import PrecisionProbe
from scaling.core.specs import Precision, parse_spec
from scaling.distributed.precision import autocast
from scaling.models.dit import DiT
from scaling.models.vae import VAE, to_float

TURNS = 3
"""Timed turns of each precision, after one that is not timed."""
HOPELESS = 3.0
"""A precision whose first turn takes this many times as long as the other's is not timed further."""


def measure(probe: PrecisionProbe) -> dict[Precision, float]:
    """Seconds that both trainings take together, by precision."""
    torch.set_num_threads(probe.threads)
    works = ((_vae_update(probe), probe.vae_updates), (_dit_update(probe), probe.dit_updates))
    totals: dict[Precision, float] = dict.fromkeys(get_args(Precision), 0.0)
    for update, count in works:
        for precision, seconds in _times(update).items():
            totals[precision] += seconds * count
    return totals


def _times(update: Callable[[], object]) -> dict[Precision, float]:
    """Median seconds of an update by precision."""
    precisions: tuple[Precision, ...] = get_args(Precision)
    first = {precision: _seconds(update, precision) for precision in (*precisions, *precisions)}
    fastest = min(first.values())
    times: dict[Precision, float] = {}
    for precision, seconds in first.items():
        hopeless = seconds > HOPELESS * fastest
        times[precision] = seconds if hopeless else median(_seconds(update, precision) for _ in range(TURNS))
    return times


def _seconds(update: Callable[[], object], precision: Precision) -> float:
    start = time.perf_counter()
    with using_precision(precision):
        update()
    return time.perf_counter() - start


def _dit_update(probe: PrecisionProbe) -> Callable[[], None]:
    channels = probe.vae.latent_channels
    model = DiT(probe.dit, channels, probe.text.width)
    patches = torch.randn(probe.clips * math.prod(probe.grid), channels * probe.dit.patch**2)
    states = torch.randn(probe.clips, probe.text.max_tokens, probe.text.width)
    mask = torch.ones(states.shape[:2], dtype=torch.bool)

    def update() -> None:
        with autocast():
            output = model(patches, [probe.grid] * probe.clips, torch.rand(probe.clips), states, mask, states.mean(1))
        _backward(output.float().square().mean())
        model.zero_grad()

    return update


def _vae_update(probe: PrecisionProbe) -> Callable[[], None]:
    model = VAE(probe.vae)
    side = probe.vae_train.crop
    crops = torch.randint(256, (probe.crops, probe.vae_train.crop_frames, side, side, 3), dtype=torch.uint8)

    def update() -> None:
        pixels = to_float(crops)
        with autocast():
            mean, _ = model.encode(pixels)
            output = model.decode(mean)
        _backward((output.float() - pixels).abs().mean())
        model.zero_grad()

    return update


def _backward(loss: torch.Tensor) -> None:
    loss.backward()  # type: ignore[no-untyped-call]


if __name__ == "__main__":
    print(json.dumps(measure(parse_spec(PrecisionProbe, json.load(sys.stdin), "stdin"))))
