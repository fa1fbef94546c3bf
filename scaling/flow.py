"""Rectified flow: the straight path from data to noise, its loss and its sampler, as functions of tensors.

z = (1 - t) x + t noise with t = `t_flow`, 1 = noise; the velocity is dz/dt = noise - x (arXiv 2209.03003, equation 1).
The network predicts the velocity, or the clean patches x; the loss is on the velocity in both cases.
"""

from collections.abc import Callable, Sequence
from enum import IntEnum, unique
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor

from scaling.specs import Prediction

SMALLEST_TIME = 0.05
"""Floor of t where a clean prediction is turned into a velocity by dividing by t (JiT, arXiv 2511.13720)."""


def stratified_times(count: int, generator: torch.Generator) -> Tensor:
    """(count,) logit-normal times, one from each of `count` equally likely strata, shuffled: a training batch that
    covers the density evenly has a less noisy gradient (density: Stable Diffusion 3, arXiv 2403.03206, section 3.1)."""
    shares = (torch.arange(count) + torch.rand(count, generator=generator)) / count
    shares = shares[torch.randperm(count, generator=generator)]
    return torch.sigmoid(torch.special.ndtri(shares.clamp(1e-4, 1 - 1e-4)))


def mix(clean: Tensor, noise: Tensor, t_flow: Tensor) -> Tensor:
    """The noisy latents at time t_flow, which broadcasts against them."""
    return (1 - t_flow) * clean + t_flow * noise


def to_velocity(output: Tensor, noisy: Tensor, t_flow: Tensor, prediction: Prediction) -> Tensor:
    """What the network's output says of the velocity; t_flow broadcasts against it."""
    if prediction == "velocity":
        return output
    return (noisy - output) / t_flow.clamp(min=SMALLEST_TIME)


@unique
class Stream(IntEnum):
    """Second number of every seed, after a spec's own: what is drawn for one purpose never depends on another."""

    ORDER = 0
    """Clips of the DiT's updates."""
    NOISE = 1
    """Times, noise and dropped captions of the DiT's updates."""
    CROP = 2
    """Crops of the VAE's updates."""
    POSTERIOR = 3
    """Latents of the VAE's updates."""
    VALIDATION = 4
    GRID = 5
    """First noise of the sample grid."""
    FVD = 6
    """First noise of the clips that are measured."""


def seeded_noise(shape: Sequence[int], *seed: int) -> Tensor:
    """Standard normal noise that depends on the seed's numbers alone: drawn on the CPU in float32 by a generator of its
    own, so that a sample is the same in any batch, on any device, in any world size."""
    return torch.randn(tuple(shape), generator=seeded(*seed))


def seeded(*seed: int) -> torch.Generator:
    """A CPU generator for a tuple of non-negative numbers; neighbouring tuples give unrelated streams."""
    state = np.random.SeedSequence(seed).generate_state(1, np.uint64)[0]
    return torch.Generator().manual_seed(int(state >> np.uint64(1)))


def euler(velocity: Callable[[Tensor, float], Tensor], noise: Tensor, steps: int) -> Tensor:
    """Integrates dz/dt from noise at t = 1 to data at t = 0 in equal steps, in float32."""
    times = torch.linspace(1, 0, steps + 1).tolist()
    z = noise.float()
    for now, then in pairwise(times):
        z = z + (then - now) * velocity(z, now)
    return z
