"""Which clips make the batch of an update: token budgets filled from an endless shuffle. Imports no torch.

A batch depends on (seed, step) alone: not on the number of ranks, of workers, or on where a run was resumed. Ranks then
share it out, with equal work. Clips keep their sizes, so nothing is padded: what is wasted is the rest of the budget
that no clip fits into.
"""

from collections import deque
from collections.abc import Iterator, Sequence
from itertools import count

import numpy as np

from scaling.core.errors import UserError
from scaling.core.streams import Stream

WINDOW = 256
"""Clips that a batch may pass over to fill the rest of its budget. Looking further wastes no less and mixes less."""


class TokenBatches:
    """The clips of every update, as a function of its number. `lengths` are the clips' tokens."""

    def __init__(self, lengths: Sequence[int], batch_tokens: int, seed: int) -> None:
        """Raises UserError where a clip is longer than a batch."""
        if max(lengths) > batch_tokens:
            raise UserError(
                f"batch_tokens is {batch_tokens}, but the longest clip has {max(lengths)} tokens: raise it, or lower "
                "the data's 'frames' or 'pixels'"
            )
        self.lengths, self.batch_tokens, self.seed = lengths, batch_tokens, seed
        self._step, self._batch = -1, list[int]()
        self._batches = self._fill()

    def __call__(self, step: int) -> list[int]:
        """Clips of update `step`, counted from 0. Steps are made in order, at about a microsecond a clip: a resumed run
        makes those before it again."""
        if step < self._step:
            self._step, self._batches = -1, self._fill()
        while self._step < step:
            self._batch, self._step = next(self._batches), self._step + 1
        return self._batch

    def _fill(self) -> Iterator[list[int]]:
        """Takes clips from the front of the shuffle, and past one that does not fit, those behind it that do. One that
        was passed over is first in the next batch, so every clip is seen once an epoch, or a batch later."""
        shuffle, passed = self._shuffle(), deque[int]()
        shortest = min(self.lengths)
        while True:
            batch, still_passed, room = list[int](), deque[int](), self.batch_tokens
            while room >= shortest and len(still_passed) < WINDOW:
                clip = passed.popleft() if passed else next(shuffle)
                if self.lengths[clip] <= room:
                    batch.append(clip)
                    room -= self.lengths[clip]
                else:
                    still_passed.append(clip)
            passed.extendleft(reversed(still_passed))
            yield batch

    def _shuffle(self) -> Iterator[int]:
        for epoch in count():
            rng = np.random.default_rng([self.seed, Stream.ORDER, epoch])
            yield from rng.permutation(len(self.lengths)).tolist()


def share_out(costs: Sequence[float], parts: int) -> list[list[int]]:
    """Shares places 0..n-1 out to `parts` ranks so that their costs are nearly equal: the dearest first, each to the
    rank that has least (Graham 1969: within 4/3 of the best). Places rise within a part.

    Attention grows with the square of a clip's tokens, so equal tokens would not be equal work: give FLOPs.
    Raises UserError where there are fewer clips than ranks.
    """
    if len(costs) < parts:
        raise UserError(f"a batch of {len(costs)} clips cannot be shared by {parts} ranks: raise batch_tokens")
    totals, shares = [0.0] * parts, [list[int]() for _ in range(parts)]
    for place in sorted(range(len(costs)), key=lambda place: (-costs[place], place)):
        least = min(range(parts), key=lambda part: (totals[part], len(shares[part])))
        totals[least] += costs[place]
        shares[least].append(place)
    return [sorted(share) for share in shares]


def micro_batches(lengths: Sequence[int], most_tokens: int | None) -> list[list[int]]:
    """Cuts places 0..n-1 into neighbours of at most `most_tokens` together; one clip that is longer stands alone."""
    if most_tokens is None:
        return [list(range(len(lengths)))]
    batches: list[list[int]] = []
    room = 0
    for place, length in enumerate(lengths):
        if length > room:
            batches.append([])
            room = max(most_tokens, length)
        batches[-1].append(place)
        room -= length
    return batches
