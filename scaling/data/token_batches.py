"""Which clips make the batch of an update: token budgets filled from an endless shuffle. Imports no torch.

A batch depends on (seed, step) alone: not on the number of ranks or workers, nor on where a run was resumed. The ranks
then divide it into parts of equal work. Clips keep their sizes, so nothing is padded; only the part of the budget that
no clip fits into is wasted.
"""

from collections import deque
from collections.abc import Iterator, Sequence
from itertools import count

import numpy as np

from scaling.core.errors import UserError
from scaling.core.streams import Stream

WINDOW = 256
"""Number of clips that a batch may pass over to fill the rest of its budget. A larger number wastes no less of the
budget and mixes the clips less."""


class TokenBatches:
    """The clips of every update, as a function of its number. `lengths` are the numbers of tokens of the clips."""

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
        """The clips of update `step`, counted from 0. Batches are made in order, in about a microsecond for each clip;
        a resumed run makes the earlier ones again."""
        if step < self._step:
            self._step, self._batches = -1, self._fill()
        while self._step < step:
            self._batch, self._step = next(self._batches), self._step + 1
        return self._batch

    def _fill(self) -> Iterator[list[int]]:
        """Takes clips from the front of the shuffle. Where one does not fit, it is passed over and the next that fit
        are taken. The clips that were passed over are the first of the next batch, so every clip is seen once an epoch,
        or one batch later."""
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
    """Divides positions 0..n-1 among `parts` ranks so that their costs are nearly equal: the most expensive position
    first, each to the rank with the lowest cost so far (Graham 1969: within 4/3 of the best). Positions rise within a
    part.

    The cost of attention grows with the square of a clip's tokens, so equal tokens are not equal work: give FLOPs.
    Raises UserError where there are fewer clips than ranks.
    """
    if len(costs) < parts:
        raise UserError(f"a batch of {len(costs)} clips cannot be divided among {parts} ranks: raise batch_tokens")
    totals, shares = [0.0] * parts, [list[int]() for _ in range(parts)]
    for position in sorted(range(len(costs)), key=lambda position: (-costs[position], position)):
        lowest = min(range(parts), key=lambda part: (totals[part], len(shares[part])))
        totals[lowest] += costs[position]
        shares[lowest].append(position)
    return [sorted(share) for share in shares]


def micro_batches(lengths: Sequence[int], most_tokens: int | None) -> list[list[int]]:
    """Divides positions 0..n-1 into runs of neighbors with at most `most_tokens` tokens together. A longer clip is a
    run of its own."""
    if most_tokens is None:
        return [list(range(len(lengths)))]
    batches: list[list[int]] = []
    room = 0
    for position, length in enumerate(lengths):
        if length > room:
            batches.append([])
            room = max(most_tokens, length)
        batches[-1].append(position)
        room -= length
    return batches
