"""Token budgets: every clip once an epoch, a function of (seed, step), hardly any waste, equal work for all ranks."""

import math
from collections import Counter

import numpy as np
import pytest

from scaling.core.errors import UserError
from scaling.data.token_batches import TokenBatches, micro_batches, share_out

MIX = [(1, 4, 4), (1, 3, 6), (2, 4, 4), (3, 2, 4), (3, 4, 2), (5, 3, 3), (5, 4, 4), (9, 2, 2)]
"""Tokens along t, h, w of eight shapes: images, and clips of several durations and aspect ratios."""


def mixed(count):
    return [math.prod(MIX[number]) for number in np.random.default_rng(0).integers(len(MIX), size=count)]


@pytest.mark.parametrize("budget", [640, 1280, 16384, 262144])
def test_at_most_two_percent_of_a_budget_is_wasted(budget):
    lengths = mixed(2000)
    batches = TokenBatches(lengths, budget, seed=0)
    filled = [sum(lengths[clip] for clip in batches(step)) for step in range(min(300, 10**7 // budget))]
    assert max(filled) <= budget
    assert 1 - np.mean(filled) / budget < 0.02


def test_clips_of_one_length_fill_a_budget_that_they_divide():
    batches = TokenBatches([80] * 100, 1280, seed=0)
    assert all(len(batches(step)) == 16 for step in range(20))


def test_batches_depend_on_seed_and_step_alone():
    lengths = mixed(300)
    forwards = [TokenBatches(lengths, 400, seed=0)(step) for step in range(40)]
    batches = TokenBatches(lengths, 400, seed=0)
    assert [batches(step) for step in reversed(range(40))] == forwards[::-1]
    assert TokenBatches(lengths, 400, seed=1)(0) != forwards[0]


def test_every_clip_comes_as_often_as_any_other():
    lengths = mixed(500)
    batches, counts = TokenBatches(lengths, 1280, seed=0), Counter()
    for step in range(200):
        counts.update(batches(step))
    assert set(counts) == set(range(500))
    assert max(counts.values()) - min(counts.values()) <= 2


def test_few_clips_fill_a_large_budget_with_repeats():
    assert Counter(TokenBatches([10, 20], 300, seed=0)(3)).keys() == {0, 1}


def test_a_clip_longer_than_a_batch_is_refused():
    with pytest.raises(UserError, match="batch_tokens is 100, but the longest clip has 144 tokens"):
        TokenBatches([16, 144], 100, seed=0)


@pytest.mark.parametrize("ranks", [1, 2, 8])
def test_ranks_share_out_all_work_equally(ranks):
    lengths = mixed(400)
    costs = [length + length**2 / 100 for length in lengths]
    shares = share_out(costs, ranks)
    assert sorted(position for share in shares for position in share) == list(range(400))
    totals = [sum(costs[position] for position in share) for share in shares]
    assert max(totals) / min(totals) < 1.02
    with pytest.raises(UserError, match="3 clips cannot be divided among 4 ranks"):
        share_out([1.0] * 3, 4)


def test_micro_batches_keep_the_order_and_the_bound():
    parts = micro_batches([5, 5, 5, 20, 1, 1], 10)
    assert parts == [[0, 1], [2], [3], [4, 5]]
    assert micro_batches([5, 5], None) == [[0, 1]]
