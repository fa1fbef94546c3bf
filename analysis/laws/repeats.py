"""The worth of repeated data as effective tokens: Muennighoff et al. 2023 (arXiv 2305.16264), equation 5."""

import numpy as np

from analysis.tables.arrays import Array

HALF_LIVES = (0.3, 300.0)
"""Bounds of R, in repetitions. Published for text: 15.4. Below the lower bound the second pass is already worth little;
above the upper one all data that a sweep can reach are as good as new, so R has no effect."""


def effective_tokens(num_tokens: Array, unique_tokens: Array, half_life: float | Array) -> Array:
    """D' = U (1 + R (1 - exp(-r / R))), where r = D/U - 1 is the number of repetitions; D itself where D <= U."""
    repeats = np.maximum(num_tokens / unique_tokens - 1, 0.0)
    worth = unique_tokens * (1 - half_life * np.expm1(-repeats / half_life))
    return np.where(num_tokens <= unique_tokens, num_tokens, worth)
