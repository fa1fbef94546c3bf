"""Samples: latents of a chosen size from captions and seeds, by integrating the flow with classifier-free guidance.

Some latent frames may be given, or the noise may be mixed into a video's latents. Nothing here knows pixels: see
`scaling.diffusion.video_sampling`.
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
from scaling.models.dit import DiT, patchify, unpatchify
from scaling.text.caption import Caption

BATCH_CLIPS = 16


@dataclass(frozen=True)
class Sampler:
    """How the flow is integrated."""

    solver: Solver
    steps: int
    guidance: float
    """How often what the caption changes is added to the velocity without it (arXiv 2207.12598); 1 is the caption
    alone, for half the work."""
    interval: tuple[float, float]
    """Flow times between which guidance acts, both included (arXiv 2404.07724); elsewhere the caption alone speaks,
    again for half the work."""

    @classmethod
    def of(cls, evaluation: EvalSpec) -> "Sampler":
        return cls(evaluation.solver, evaluation.sample_steps, evaluation.guidance, evaluation.guidance_interval)

    def guides(self, t_flow: float) -> bool:
        """Whether the velocity without the caption is needed."""
        low, high = self.interval
        return self.guidance != 1 and low <= t_flow <= high


@dataclass(frozen=True)
class ConditioningFrames:
    """Latent frames that a sample begins or ends with."""

    latents: Tensor
    """(k, h, w, c), normalised. At the start, the first is an image latent; at the end, each stands for several
    frames: as where they come from, so where they go."""
    at: Literal["start", "end"]


@dataclass(frozen=True)
class Edit:
    """A video to start from in place of pure noise (SDEdit, arXiv 2108.01073, algorithm 1, on the flow's path)."""

    latents: Tensor
    """(t, h, w, c), normalised."""
    strength: float
    """Flow time to which it is made noisy, above 0: 1 keeps nothing of it."""


def sample(
    model: DiT,
    caption: Caption,
    shape: Grid,
    seeds: Sequence[tuple[int, ...]],
    how: Sampler,
    *,
    given: ConditioningFrames | None = None,
    edit: Edit | None = None,
) -> Tensor:
    """Normalised latents (clips, t, h, w, c) of one shape, float32 on the CPU. Clip i starts from the noise of
    seeds[i], so it does not depend on the batch that it is in.

    Every clip has the given frames, exactly, and starts from the edited video.
    """
    parts = []
    for first in range(0, len(seeds), BATCH_CLIPS):
        rows = list(range(first, min(first + BATCH_CLIPS, len(seeds))))
        parts.append(_batch(model, caption.rows(rows), shape, [seeds[row] for row in rows], how, given, edit))
    return torch.cat(parts)


@torch.no_grad()
def _batch(
    model: DiT,
    caption: Caption,
    shape: Grid,
    seeds: list[tuple[int, ...]],
    how: Sampler,
    given: ConditioningFrames | None,
    edit: Edit | None,
) -> Tensor:
    device = next(model.parameters()).device
    patch = model.spec.patch
    channels = model.head.out_features // patch**2
    count = len(seeds)
    grid = token_grid(shape, patch)
    told = caption.to(device)
    both = caption.rows([*range(count), *range(count)]).dropped(torch.arange(2 * count) >= count).to(device)

    z = torch.stack([seeded_noise((*shape, channels), *seed) for seed in seeds])
    if edit is not None:
        assert edit.latents.shape == z.shape[1:], f"{edit.latents.shape} is to become {z.shape[1:]}"
        z = mix(edit.latents, z, torch.tensor(edit.strength))
    frames = _given_frames(shape, given)
    if given is not None:
        z[:, frames] = given.latents
    marks = frames.repeat_interleave(grid[1] * grid[2]).to(device)  # (tokens,)
    z = patchify(z, patch).to(device)

    def velocity(z: Tensor, t: float) -> Tensor:
        guided = how.guides(t)
        text, halves = (both, 2) if guided else (told, 1)
        clips = halves * count
        noisy = z.repeat(halves, 1, 1).flatten(0, 1)
        clean = None if given is None else marks.repeat(clips)
        t_flow = torch.full((clips,), t, device=device)
        with torch.autocast(device.type, torch.bfloat16):
            output = model(noisy, [grid] * clips, t_flow, text.states, text.mask, text.pooled, clean)
        found = to_velocity(output, noisy, torch.tensor(t), model.spec.prediction).unflatten(0, (halves, *z.shape[:2]))
        wanted = found[1] + how.guidance * (found[0] - found[1]) if guided else found[0]
        return wanted.masked_fill(marks[:, None], 0)  # so that given frames stay as they are

    start = 1.0 if edit is None else edit.strength
    grid_of_times = times(how.steps, len(marks), model.spec.shift_tokens, start)
    return unpatchify(integrate(how.solver, velocity, z, grid_of_times), grid, patch).cpu()


def _given_frames(shape: Grid, given: ConditioningFrames | None) -> Tensor:
    """(t,) True for the latent frames that are given."""
    frames = torch.zeros(shape[0], dtype=torch.bool)
    if given is not None:
        count = len(given.latents)
        assert 0 < count < shape[0], f"{count} of {shape[0]} latent frames are given"
        frames[slice(count) if given.at == "start" else slice(-count, None)] = True
    return frames
