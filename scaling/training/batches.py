"""The batches of the DiT's updates: from the number of an update to the clips, times, noise, dropped captions and
conditioning frames that a rank trains on. Which clips an update has is decided by `scaling.data.token_batches`.

All of it depends only on (seed, step) and on a clip's place in the batch. Ranks and micro-batches take parts of it.
"""

import math
from dataclasses import dataclass
from functools import cache

import torch
from torch import Tensor

from scaling.accounting import flops
from scaling.accounting.geometry import Grid
from scaling.core.errors import UserError
from scaling.core.specs import DiTSpec, OptimSpec
from scaling.core.streams import Stream
from scaling.data.token_batches import TokenBatches, micro_batches, share_out
from scaling.diffusion.flow import seeded, seeded_noise, shift, stratified_times
from scaling.diffusion.latents import LatentSet, Packed

END_FRACTION = 1 / 3
"""The fraction of the clips with conditioning frames whose conditioning frames are the last ones, so that the model
learns to sample what comes before a video."""


@dataclass(frozen=True)
class FlowBatch:
    """Packed clips and everything random about one forward pass over them."""

    packed: Packed
    """The clean clips."""
    t_flow: Tensor
    """The flow time of each clip, (clips,)."""
    noise: Tensor
    """The noise of each patch, in the shape of the patches."""
    dropped: Tensor
    """(clips,) True where the caption is dropped."""
    conditioning: Tensor
    """(tokens,) True where the token belongs to a conditioning frame."""
    share: float
    """The number of tokens that are predicted here divided by that of the whole update."""


class FlowBatches:
    """The micro-batches of every update for one rank."""

    def __init__(
        self,
        data: LatentSet,
        dit: DiTSpec,
        optim: OptimSpec,
        seed: int,
        *,
        rank: int = 0,
        world_size: int = 1,
        micro_tokens: int | None = None,
    ) -> None:
        """Raises UserError if a clip is longer than a batch."""
        self.data, self.dit, self.optim, self.seed = data, dit, optim, seed
        self.rank, self.world_size, self.micro_tokens = rank, world_size, micro_tokens
        self.lengths = [math.prod(grid) for grid in data.grids]
        self.clips = TokenBatches(self.lengths, optim.batch_tokens, seed)
        self._clip_flops = cache(self._uncached_clip_flops)

    def __call__(self, step: int) -> list[FlowBatch]:
        """The micro-batches of update `step`, counted from 0."""
        clips = self.data.by_shape(self.clips(step))
        grids = [self.data.grids[clip] for clip in clips]
        generator = seeded(self.seed, Stream.TIMES, step)
        tokens = torch.tensor([self.lengths[clip] for clip in clips])
        t_flow = shift(stratified_times(len(clips), generator), tokens, self.dit.shift_tokens)
        dropped = torch.rand(len(clips), generator=generator) < self.optim.caption_dropout
        conditioning = [_conditioning_mask(grid, self.optim.conditioning_frames, generator) for grid in grids]
        predicted = sum(int((~mask).sum()) for mask in conditioning)

        rank_places = share_out([self._clip_flops(grid) for grid in grids], self.world_size)[self.rank]
        batches = []
        for part in micro_batches([math.prod(grids[place]) for place in rank_places], self.micro_tokens):
            places = [rank_places[number] for number in part]
            packed = self.data.pack([clips[place] for place in places])
            channels = packed.patches.shape[1]
            noise = [
                seeded_noise((math.prod(grids[place]), channels), self.seed, Stream.NOISE, step, place)
                for place in places
            ]
            mask = torch.cat([conditioning[place] for place in places])
            share = int((~mask).sum()) / predicted
            batches.append(FlowBatch(packed, t_flow[places], torch.cat(noise), dropped[places], mask, share))
        return batches

    def _uncached_clip_flops(self, grid: Grid) -> float:
        return flops.dit_training(self.dit, self.data.channels, [grid], self.data.text_tokens, self.data.text_dim)

    def steps_within(self, flop_budget: float) -> "Budget":
        """The number of updates whose training FLOPs come closest to a budget.

        Raises UserError if the budget is too small for one update.
        """
        steps, spent, tokens = 0, 0.0, 0
        flops_of: dict[tuple[Grid, ...], float] = {}
        while True:
            grids = tuple(sorted(self.data.grids[clip] for clip in self.clips(steps)))
            if grids not in flops_of:
                flops_of[grids] = flops.dit_training(
                    self.dit, self.data.channels, grids, self.data.text_tokens, self.data.text_dim
                )
            update_flops = flops_of[grids]
            if spent + update_flops / 2 > flop_budget:
                break
            steps, spent = steps + 1, spent + update_flops
            tokens += sum(math.prod(grid) for grid in grids)
        if steps == 0:
            raise UserError(
                f"flop_budget is {flop_budget:.3g}, but one update alone costs {update_flops:.3g} FLOPs: raise the "
                "budget"
            )
        return Budget(steps, spent, tokens)


@dataclass(frozen=True)
class Budget:
    """The length of a training that a number of training FLOPs allows."""

    steps: int
    """The number of updates."""
    train_flops: float
    """The training FLOPs of these updates."""
    num_tokens: int
    """The number of tokens in these updates."""


def _conditioning_mask(grid: Grid, probability: float, generator: torch.Generator) -> Tensor:
    """(tokens,) True for the tokens of the conditioning frames of a clip. With this probability there are some: in half
    of the cases one frame, otherwise any number that leaves one to predict. They are at the beginning of the clip, or,
    in END_FRACTION of the cases, at its end."""
    t, h, w = grid
    has_some, has_one, share, end = torch.rand(4, generator=generator).tolist()
    frames = torch.zeros(t, dtype=torch.bool)
    if has_some < probability and t > 1:
        count = 1 if has_one < 0.5 else 1 + int(share * (t - 1))
        frames[t - count :] = end < END_FRACTION
        frames[:count] |= end >= END_FRACTION
    return frames.repeat_interleave(h * w)
