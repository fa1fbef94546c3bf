"""A power law of one variable, fitted by a straight line in logarithms."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from analysis.tables.arrays import Array


@dataclass(frozen=True)
class PowerLaw:
    """y = coefficient * x^exponent."""

    coefficient: float
    exponent: float

    def __call__(self, x: ArrayLike) -> Array:
        return self.coefficient * np.asarray(x, float) ** self.exponent


def fit_power(x: ArrayLike, y: ArrayLike, weights: ArrayLike | None = None) -> PowerLaw:
    """Least squares of log y on log x. A single distinct x gives proportionality, exponent 1.

    weights: inverse variances of log y; equal where there are none.
    """
    log_x, log_y = np.log(np.asarray(x, float)), np.log(np.asarray(y, float))
    share = np.ones_like(log_x) if weights is None else np.asarray(weights, float)
    share = share / share.sum()
    centered = log_x - share @ log_x
    spread = float(share @ centered**2)
    exponent = float(share * centered @ log_y) / spread if spread > 1e-12 / len(log_x) else 1.0
    return PowerLaw(float(np.exp(share @ log_y - exponent * (share @ log_x))), exponent)
