"""Samples latents of a chosen size from captions and seeds, by integrating the flow with classifier-free guidance.

Some latent frames may be given as conditioning, or a video's latents may be mixed with the noise. Nothing here knows
pixels, which are in `scaling.diffusion.video_sampling`.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from scaling.accounting.geometry import Grid, token_grid
from scaling.core.specs import EvalSpec, Solver
from scaling.diffusion.flow import mix, seeded_noise, to_velocity
from scaling.diffusion.solvers import integrate, times
from scaling.distributed.precision import autocast
from scaling.models.dit import DiT, patchify, unpatchify
from scaling.text.encoded_captions import EncodedCaptions

BATCH_CLIPS = 16
"""Largest number of clips that are sampled at once."""


@dataclass(frozen=True)
class Sampler:
    """How the flow is integrated."""

    solver: Solver
    """The method of integration."""
    steps: int
    """The number of steps from noise to data."""
    guidance: float
    """Guidance weight w: the velocity is v_uncond + w (v_cond - v_uncond) (arXiv 2207.12598). With 1, only the
    conditional velocity is computed, which is half the work."""
    interval: tuple[float, float]
    """Flow times between which guidance acts, both included (arXiv 2404.07724). Elsewhere only the conditional velocity
    is computed, which is half the work."""

    @classmethod
    def from_spec(cls, evaluation: EvalSpec) -> "Sampler":
        """The sampler with which an evaluation draws its samples."""
        return cls(evaluation.solver, evaluation.sample_steps, evaluation.guidance, evaluation.guidance_interval)

    def is_guided(self, t_flow: float) -> bool:
        """Whether guidance acts at this time, so that the unconditional velocity is needed."""
        low, high = self.interval
        return self.guidance != 1 and low <= t_flow <= high


@dataclass(frozen=True)
class ConditioningFrames:
    """Latent frames that a sample begins or ends with."""

    latents: Tensor
    """(k, h, w, c), normalized, with k below the number of latent frames of the sample. A latent must stand for as many
    frames in its own clip as it does in the sample: at the start, the first one stands for one frame; at the end, each
    stands for several."""
    position: Literal["start", "end"]
    """Where in the sample the frames are."""

    def mask(self, num_latents: int) -> Tensor:
        """(num_latents,) True for the latent frames of a sample that these are."""
        count = len(self.latents)
        assert 0 < count < num_latents, f"{count} of {num_latents} latent frames are conditioning frames"
        mask = torch.zeros(num_latents, dtype=torch.bool)
        mask[slice(count) if self.position == "start" else slice(-count, None)] = True
        return mask


@dataclass(frozen=True)
class Edit:
    """A video to start from instead of pure noise (SDEdit, arXiv 2108.01073, algorithm 1, on the flow's path)."""

    latents: Tensor
    """(t, h, w, c), normalized."""
    strength: float
    """Flow time to which noise is added, above 0 and at most 1. With 1, nothing of the video remains."""


def sample(
    model: DiT,
    caption: EncodedCaptions,
    shape: Grid,
    seeds: Sequence[tuple[int, ...]],
    sampler: Sampler,
    *,
    conditioning: ConditioningFrames | None = None,
    edit: Edit | None = None,
) -> Tensor:
    """Normalized latents (clips, t, h, w, c) of one shape, float32 on the CPU. Clip i starts from the noise of
    seeds[i], so it does not depend on the batch that it is in.

    Every clip contains the conditioning frames unchanged, and starts from the edited video.
    """
    parts = []
    for first in range(0, len(seeds), BATCH_CLIPS):
        rows = list(range(first, min(first + BATCH_CLIPS, len(seeds))))
        batch_seeds = [seeds[row] for row in rows]
        parts.append(_sample_batch(model, caption.rows(rows), shape, batch_seeds, sampler, conditioning, edit))
    return torch.cat(parts)


@torch.no_grad()
def _sample_batch(
    model: DiT,
    caption: EncodedCaptions,
    shape: Grid,
    seeds: list[tuple[int, ...]],
    sampler: Sampler,
    conditioning: ConditioningFrames | None,
    edit: Edit | None,
) -> Tensor:
    device = next(model.parameters()).device
    patch = model.spec.patch
    channels = model.head.out_features // patch**2
    count = len(seeds)
    grid = token_grid(shape, patch)
    conditional = caption.to(device)
    both = caption.rows([*range(count), *range(count)]).dropped(torch.arange(2 * count) >= count).to(device)

    z = torch.stack([seeded_noise((*shape, channels), *seed) for seed in seeds])
    if edit is not None:
        assert edit.latents.shape == z.shape[1:], f"{edit.latents.shape} is to become {z.shape[1:]}"
        z = mix(edit.latents, z, torch.tensor(edit.strength))
    frame_mask = torch.zeros(shape[0], dtype=torch.bool)
    if conditioning is not None:
        frame_mask = conditioning.mask(shape[0])
        z[:, frame_mask] = conditioning.latents
    token_mask = frame_mask.repeat_interleave(grid[1] * grid[2]).to(device)  # (tokens,)
    z = patchify(z, patch).to(device)

    def velocity(z: Tensor, t: float) -> Tensor:
        guided = sampler.is_guided(t)
        text, halves = (both, 2) if guided else (conditional, 1)
        clips = halves * count
        noisy = z.repeat(halves, 1, 1).flatten(0, 1)
        conditioning_tokens = None if conditioning is None else token_mask.repeat(clips)
        t_flow = torch.full((clips,), t, device=device)
        with autocast():
            output = model(noisy, [grid] * clips, t_flow, text.states, text.mask, text.pooled, conditioning_tokens)
        velocities = to_velocity(output, noisy, torch.tensor(t), model.spec.prediction)
        velocities = velocities.reshape(halves, *z.shape)  # (halves, clips, tokens, c)
        result = velocities[0]
        if guided:
            result = velocities[1] + sampler.guidance * (velocities[0] - velocities[1])
        return result.masked_fill(token_mask[:, None], 0)  # conditioning frames stay as they are

    start = 1.0 if edit is None else edit.strength
    flow_times = times(sampler.steps, len(token_mask), model.spec.shift_tokens, start)
    return unpatchify(integrate(sampler.solver, velocity, z, flow_times), grid, patch).cpu()
