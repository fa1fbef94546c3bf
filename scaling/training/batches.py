"""From the number of an update to what each rank computes for it: clips, times, noise, what is dropped and what given.

All of it depends on (seed, step) and on a clip's place in the batch alone. Ranks and micro-batches take parts of it.
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
from scaling.data.batching import TokenBatches, micro_batches, share_out
from scaling.diffusion.flow import seeded, seeded_noise, shift, stratified_times
from scaling.diffusion.latents import LatentSet, Packed

FROM_THE_END = 1 / 3
"""Of the clips with given frames, how many have their last ones given: for extending backwards."""


@dataclass(frozen=True)
class FlowBatch:
    """Packed clips and everything random about one forward over them."""

    packed: Packed
    t_flow: Tensor
    """(clips,)"""
    noise: Tensor
    """Like the patches."""
    dropped: Tensor
    """(clips,) True where the caption is left out."""
    given: Tensor
    """(tokens,) True where the frame is given."""
    share: float
    """Of the tokens that the whole update predicts, those that are predicted here."""


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
        ranks: int = 1,
        micro_tokens: int | None = None,
    ) -> None:
        """Raises UserError where a clip is longer than a batch."""
        self.data, self.dit, self.optim, self.seed = data, dit, optim, seed
        self.rank, self.ranks, self.micro_tokens = rank, ranks, micro_tokens
        self.lengths = [math.prod(grid) for grid in data.grids]
        self.clips = TokenBatches(self.lengths, optim.batch_tokens, seed)
        self._cost = cache(self._uncached_cost)

    def __call__(self, step: int) -> list[FlowBatch]:
        clips = self.data.by_shape(self.clips(step))
        grids = [self.data.grids[clip] for clip in clips]
        generator = seeded(self.seed, Stream.TIMES, step)
        tokens = torch.tensor([self.lengths[clip] for clip in clips])
        t_flow = shift(stratified_times(len(clips), generator), tokens, self.dit.shift_tokens)
        dropped = torch.rand(len(clips), generator=generator) < self.optim.caption_dropout
        given = [_given(grid, self.optim.conditioning_frames, generator) for grid in grids]
        predicted = sum(int((~marks).sum()) for marks in given)

        mine = share_out([self._cost(grid) for grid in grids], self.ranks)[self.rank]
        batches = []
        for part in micro_batches([math.prod(grids[place]) for place in mine], self.micro_tokens):
            places = [mine[number] for number in part]
            packed = self.data.pack([clips[place] for place in places])
            channels = packed.patches.shape[1]
            noise = [
                seeded_noise((math.prod(grids[place]), channels), self.seed, Stream.NOISE, step, place)
                for place in places
            ]
            marks = torch.cat([given[place] for place in places])
            share = int((~marks).sum()) / predicted
            batches.append(FlowBatch(packed, t_flow[places], torch.cat(noise), dropped[places], marks, share))
        return batches

    def _uncached_cost(self, grid: Grid) -> float:
        return flops.dit_training(self.dit, self.data.channels, [grid], self.data.text_tokens, self.data.text_dim)

    def steps_within(self, flop_budget: float) -> "Budget":
        """The number of updates that comes closest to a budget.

        Raises UserError where the budget does not pay for one update.
        """
        steps, spent, tokens = 0, 0.0, 0
        cost_of: dict[tuple[Grid, ...], float] = {}
        while True:
            grids = tuple(sorted(self.data.grids[clip] for clip in self.clips(steps)))
            if grids not in cost_of:
                cost_of[grids] = flops.dit_training(
                    self.dit, self.data.channels, grids, self.data.text_tokens, self.data.text_dim
                )
            cost = cost_of[grids]
            if spent + cost / 2 > flop_budget:
                break
            steps, spent, tokens = steps + 1, spent + cost, tokens + sum(math.prod(grid) for grid in grids)
        if steps == 0:
            raise UserError(f"flop_budget: {flop_budget:.3g} FLOPs do not pay for one update of {cost:.3g}; raise it")
        return Budget(steps, spent, tokens)


@dataclass(frozen=True)
class Budget:
    """What a number of training FLOPs buys."""

    steps: int
    train_flops: float
    num_tokens: int


def _given(grid: Grid, chance: float, generator: torch.Generator) -> Tensor:
    """(tokens,) True for the tokens of given frames: by `chance` some, of which half the time one frame, otherwise any
    number that leaves one to predict; at the beginning, or FROM_THE_END of the time at the end."""
    t, h, w = grid
    lucky, one, share, end = torch.rand(4, generator=generator).tolist()
    frames = torch.zeros(t, dtype=torch.bool)
    if lucky < chance and t > 1:
        count = 1 if one < 0.5 else 1 + int(share * (t - 1))
        frames[t - count :] = end < FROM_THE_END
        frames[:count] |= end >= FROM_THE_END
    return frames.repeat_interleave(h * w)
