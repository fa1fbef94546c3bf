"""One model's training step on clips of many sizes: packed, and with every clip padded to the longest of its batch.

Both train on the same clips. The padded contender gives each clip as many tokens as the longest has and masks nothing:
a mask would only add work. And, without a clock, what each way of making batches wastes.
"""

import math
from collections.abc import Sequence
from functools import partial

import numpy as np
import torch

from benchmarks.measure import Build, Contender
from benchmarks.peers import count_params, settle
from benchmarks.precision import Precision, precise
from benchmarks.shapes import CHANNELS, TEXT_TOKENS, MixedShape
from scaling.accounting import flops
from scaling.accounting.geometry import TEXT_DIM, Grid
from scaling.data.token_batches import TokenBatches
from scaling.models.dit import DiT

CLIPS = 2000
"""Of the mixed data set, drawn evenly from the sizes with seed 0."""
UPDATES = 300
"""Batches over which waste is measured."""


def batch(shape: MixedShape) -> list[Grid]:
    """The clips of the first update, those of one size beside each other, as training packs them."""
    grids = _clips(shape)
    batches = TokenBatches([math.prod(grid) for grid in grids], shape.budget, seed=0)
    return sorted(grids[clip] for clip in batches(0))


def training(shape: MixedShape, precision: Precision, padded: bool, name: str, device: torch.device) -> Contender:
    """Forward, backward and AdamW on one batch, its useful tokens and their FLOPs."""
    grids = batch(shape)
    rows = [max(grids, key=math.prod)] * len(grids) if padded else grids
    model = DiT(shape.dit, CHANNELS, TEXT_DIM).to(device).train()
    settle(model)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, fused=True)
    noisy, target = torch.randn(2, sum(map(math.prod, rows)), CHANNELS * shape.dit.patch**2, device=device)
    t_flow = torch.rand(len(rows), device=device)
    text = torch.randn(len(rows), TEXT_TOKENS, TEXT_DIM, device=device)
    mask = torch.ones(text.shape[:2], dtype=torch.bool, device=device)
    pooled = text.mean(dim=1)

    def step() -> None:
        with precise(device, precision):
            output = model(noisy, rows, t_flow, text, mask, pooled)
        (output - target).square().mean().backward()
        optimizer.step()
        optimizer.zero_grad()

    useful = flops.dit_training(shape.dit, CHANNELS, grids, TEXT_TOKENS)
    return Contender(name, step, count_params(model), sum(map(math.prod, grids)), useful)


def contenders(shape: MixedShape, precision: Precision) -> dict[str, Build]:
    """Packed first."""
    variants = {"packed": False, "padded": True}
    return {name: partial(training, shape, precision, padded, name) for name, padded in variants.items()}


def waste(shape: MixedShape) -> dict[str, float]:
    """Share of a batch's positions that carry no clip, by the way in which batches are made of the same data.

    packed: the rest of the budget that no clip fits into. bucketed: batches of one size each, as many clips as the
    budget holds, each size as often as it has clips; the rest of the budget. padded: as many clips as the budget holds
    when each takes what the longest of all takes, as a batch of fixed size must; what they leave of it.
    """
    lengths = [math.prod(grid) for grid in _clips(shape)]
    batches = TokenBatches(lengths, shape.budget, seed=0)
    filled = [sum(lengths[clip] for clip in batches(step)) for step in range(UPDATES)]
    return {
        "packed": 1 - float(np.mean(filled)) / shape.budget,
        "bucketed": 1 - _bucketed(lengths, shape.budget),
        "padded": 1 - float(np.mean(lengths)) * (shape.budget // max(lengths)) / shape.budget,
    }


def _bucketed(lengths: Sequence[int], budget: int) -> float:
    """Share of all batches' positions that carry a clip."""
    values, counts = np.unique(lengths, return_counts=True)
    per_batch = budget // values
    return float((values * counts).sum() / (budget * counts / per_batch).sum())


def _clips(shape: MixedShape) -> list[Grid]:
    return [shape.grids[number] for number in np.random.default_rng(0).integers(len(shape.grids), size=CLIPS)]
