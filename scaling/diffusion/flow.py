"""Rectified flow: the straight path from data to noise, its times and its noise, as functions of tensors.

z = (1 - t) x + t noise with t = `t_flow`, 1 = noise; the velocity is dz/dt = noise - x (arXiv 2209.03003, equation 1).
The network predicts the velocity, or the clean patches x; the loss is on the velocity in both cases.
"""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from scaling.core.specs import Prediction

SMALLEST_TIME = 0.05
"""Floor of t where the loss divides a clean prediction by it (JiT, arXiv 2511.13720)."""


def stratified_times(count: int, generator: torch.Generator) -> Tensor:
    """(count,) logit-normal times, one from each of `count` equally likely strata, shuffled: a training batch that
    covers the density evenly has a less noisy gradient (density: Stable Diffusion 3, arXiv 2403.03206, section 3.1)."""
    shares = (torch.arange(count) + torch.rand(count, generator=generator)) / count
    shares = shares[torch.randperm(count, generator=generator)]
    return torch.sigmoid(torch.special.ndtri(shares.clamp(1e-4, 1 - 1e-4)))


def shift(t_flow: Tensor, tokens: Tensor, shift_tokens: int) -> Tensor:
    """Moves times towards noise for clips of many tokens: the neighboring tokens of a large clip are redundant, so the
    same noise hides less of it. t' = a t / (1 + (a - 1) t) with a = sqrt(tokens / shift_tokens), the resolution
    shift of Stable Diffusion 3 (arXiv 2403.03206, equation 23) with a clip's tokens for an image's pixels.

    t_flow and tokens: (clips,), or broadcasting. The shift is monotone and keeps 0 and 1.
    """
    a = (tokens / shift_tokens).sqrt()
    return a * t_flow / (1 + (a - 1) * t_flow)


def mix(clean: Tensor, noise: Tensor, t_flow: Tensor) -> Tensor:
    """The noisy latents at time t_flow. The time broadcasts against the latents."""
    return (1 - t_flow) * clean + t_flow * noise


def to_velocity(
    output: Tensor, noisy: Tensor, t_flow: Tensor, prediction: Prediction, smallest_time: float = 0.0
) -> Tensor:
    """The velocity that the network's output predicts. t_flow is above 0 and broadcasts against the output.

    A loss gives SMALLEST_TIME, because near t = 0 the error of a clean prediction would outweigh all others. A sampler
    must not give it, because then the last of the noise would remain.
    """
    if prediction == "velocity":
        return output
    return (noisy - output) / t_flow.clamp(min=smallest_time)


def seeded_noise(shape: Sequence[int], *seed: int) -> Tensor:
    """Standard normal noise that depends on the seed's numbers alone: it is drawn on the CPU in float32 by a generator
    of its own, so a sample is the same in any batch, on any device and for any number of ranks."""
    return torch.randn(tuple(shape), generator=seeded(*seed))


def seeded(*seed: int) -> torch.Generator:
    """A CPU generator for a tuple of non-negative numbers. Neighboring tuples give unrelated streams."""
    state = np.random.SeedSequence(seed).generate_state(1, np.uint64)[0]
    return torch.Generator().manual_seed(int(state >> np.uint64(1)))
