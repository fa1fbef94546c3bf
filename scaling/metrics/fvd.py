"""The Fréchet distance between two sets of features, and its extrapolation to infinitely many clips.

On I3D's logits (`scaling.metrics.i3d`) it is the Fréchet video distance (arXiv 1812.01717). Imports no torch.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from scaling.core.errors import UserError

Features = NDArray[np.floating]
"""(n, d), with one row for each clip."""

MIN_CLIPS_TO_EXTRAPOLATE = 4
"""Smallest number of clips for an extrapolation, which gives the three sample sizes 2, 3 and 4."""
SAMPLE_SIZES = 15
"""Number of points of the fitted line, as in arXiv 1911.07023."""
SMALLEST_SAMPLE = 0.5
"""Size of the smallest sample, as a share of the clips. The paper starts at 0.1, but with fewer clips than features the
distance bends away from a line in 1/n: on Gaussians of 400 dimensions with variances k^-1.5 and 256 clips, where the
true distance is 30, it finds 47 from 0.1 on and 33 from 0.5 on."""
DRAWS = 4
"""Number of random subsets of each size. Their spread is a quarter of that of the clips themselves."""
REPLICATES = 60
"""Number of bootstrap resamples, which give the standard deviation to 9 %."""


class Extrapolation(NamedTuple):
    """The distance at infinitely many clips, with its 95 % interval."""

    value: float
    low: float
    high: float


def frechet_distance(features_real: Features, features_fake: Features) -> float:
    """|mu_r - mu_f|^2 + tr(S_r + S_f - 2 (S_r S_f)^(1/2)), covariances with n - 1; equation 1 of arXiv 1812.01717.

    With S = X^T X for centred and scaled features X, the eigenvalues of S_r S_f are the squared singular values of
    X_r X_f^T, so the trace of the root is their sum. No matrix root is taken, and n may be smaller than d.

    Raises UserError where the numbers of clips differ, because the bias of about 1/n would differ too, or are below 2.
    """
    _check(features_real, features_fake, 2)
    return _distance(features_real.astype(np.float64), features_fake.astype(np.float64))


def fvd_at_infinity(features_real: Features, features_fake: Features, seed: int) -> Extrapolation:
    """The distance at infinitely many clips: the intercept of a line in 1/n (Chong & Forsyth, arXiv 1911.07023).

    The interval is the value plus and minus 1.96 standard deviations of the extrapolation over bootstrap resamples of
    both sides. Resamples repeat clips, which shifts their distances, so only their spread is used. The interval
    does not cover one error: with fewer clips than the features have directions with a large variance, the value is
    still too high.

    Raises UserError where the numbers of clips differ or are below 4.
    """
    _check(features_real, features_fake, MIN_CLIPS_TO_EXTRAPOLATE)
    rng = np.random.default_rng(seed)
    real, fake = features_real.astype(np.float64), features_fake.astype(np.float64)
    value = _intercept(real, fake, rng, DRAWS)
    n = len(real)
    resampled = [
        _intercept(real[rng.integers(n, size=n)], fake[rng.integers(n, size=n)], rng, draws=1)
        for _ in range(REPLICATES)
    ]
    margin = 1.96 * float(np.std(resampled, ddof=1))
    return Extrapolation(value, value - margin, value + margin)


def _check(real: Features, fake: Features, minimum: int) -> None:
    assert real.ndim == fake.ndim == 2, f"features must be (n, d), found {real.shape} and {fake.shape}"
    assert real.shape[1] == fake.shape[1], f"features of {real.shape[1]} and {fake.shape[1]} dimensions are unequal"
    if len(real) != len(fake):
        raise UserError(
            f"{len(real)} real and {len(fake)} fake clips are not comparable, because the bias of the distance depends "
            f"on their number; take {min(len(real), len(fake))} of each"
        )
    if len(real) < minimum:
        raise UserError(f"{len(real)} clips are too few, give at least {minimum} on each side")


def _distance(real: Features, fake: Features) -> float:
    mean_real, mean_fake = real.mean(axis=0), fake.mean(axis=0)
    x = (real - mean_real) / np.sqrt(len(real) - 1)  # (n, d)
    y = (fake - mean_fake) / np.sqrt(len(fake) - 1)
    total = np.square(mean_real - mean_fake).sum() + np.square(x).sum() + np.square(y).sum()
    if len(x) > x.shape[1]:  # the triangular factors have the same products and only d rows
        x, y = np.linalg.qr(x, mode="r"), np.linalg.qr(y, mode="r")
    # The terms cancel where the sets are alike, and what rounding leaves of them may be below zero.
    return max(0.0, float(total - 2 * np.linalg.svd(x @ y.T, compute_uv=False).sum()))


def _intercept(real: Features, fake: Features, rng: np.random.Generator, draws: int) -> float:
    """The value at 1/n = 0 of the least-squares line of the distance over 1/n through random subsets of rising size."""
    n = len(real)
    sizes = np.linspace(SMALLEST_SAMPLE * n, n, SAMPLE_SIZES).round().astype(int).repeat(draws)
    distances = [_distance(real[rng.permutation(n)[:size]], fake[rng.permutation(n)[:size]]) for size in sizes]
    return float(np.polynomial.Polynomial.fit(1 / sizes, distances, deg=1)(0.0))
