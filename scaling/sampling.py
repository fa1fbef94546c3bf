"""Samples: videos of a chosen size from prompts and seeds, by integrating the flow with classifier-free guidance."""

import copy
from collections.abc import Sequence

import torch
from torch import Tensor

from scaling.caption import Caption
from scaling.flow import euler, seeded_noise, to_velocity
from scaling.geometry import Grid, token_grid
from scaling.models.dit import DiT, patchify, unpatchify

BATCH_CLIPS = 16


def averaged(model: DiT, weights: dict[str, Tensor]) -> DiT:
    """A copy of the model with other weights, such as their running average."""
    twin = copy.deepcopy(model).eval()
    twin.load_state_dict(weights)
    return twin


def sample(
    model: DiT,
    caption: Caption,
    shape: Grid,
    seeds: Sequence[tuple[int, ...]],
    *,
    steps: int,
    guidance: float,
) -> Tensor:
    """Normalised latents (clips, t, h, w, c) of one shape. Clip i starts from the noise of seeds[i], so it does not
    depend on the batch that it is in."""
    parts = []
    for first in range(0, len(seeds), BATCH_CLIPS):
        rows = list(range(first, min(first + BATCH_CLIPS, len(seeds))))
        parts.append(_batch(model, caption.rows(rows), shape, [seeds[row] for row in rows], steps, guidance))
    return torch.cat(parts)


@torch.no_grad()
def _batch(
    model: DiT,
    caption: Caption,
    shape: Grid,
    seeds: list[tuple[int, ...]],
    steps: int,
    guidance: float,
) -> Tensor:
    """Guidance (arXiv 2207.12598): the velocity without the caption, plus `guidance` times what the caption changes."""
    device = next(model.parameters()).device
    patch = model.spec.patch
    channels = model.head.out_features // patch**2
    count = len(seeds)
    grid = token_grid(shape, patch)
    noise = torch.stack([seeded_noise((*shape, channels), *seed) for seed in seeds]).to(device)
    text = caption.rows([*range(count), *range(count)]).dropped(torch.arange(2 * count) >= count).to(device)

    def velocity(patches: Tensor, t: float) -> Tensor:
        t_flow = torch.full((2 * count,), t, device=device)
        twice = torch.cat([patches, patches]).flatten(0, 1)
        with torch.autocast(device.type, torch.bfloat16):
            output = model(twice, [grid] * (2 * count), t_flow, text.states, text.mask, text.pooled)
        both = to_velocity(output, twice, torch.tensor(t), model.spec.prediction)
        told, untold = both.unflatten(0, (2, *patches.shape[:2]))
        return untold + guidance * (told - untold)

    return unpatchify(euler(velocity, patchify(noise, patch), steps), grid, patch).cpu()
