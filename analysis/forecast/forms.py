"""The forms a forecast is averaged over, each fitted to many noisy copies of the same runs.

Which form is right is the largest error of an extrapolation: a power law without a floor comes out too low, one whose
floor three budgets determine too high. All are linear given their exponents, so `analysis.laws.varpro` fits them.
"""

from dataclasses import dataclass

import numpy as np

from analysis.laws.varpro import Array, project

FRONTIER_EXPONENTS = np.geomspace(0.01, 3.0, 200)
LAW_EXPONENTS = np.geomspace(0.02, 3.0, 32)
"""Coarser than a fit needs: neighbouring grid points differ by far less in prediction than noisy copies do."""


@dataclass(frozen=True)
class Sweep:
    """The runs of one forecast as arrays, and noisy copies of their losses."""

    n_params: Array
    """(points,)"""
    num_tokens: Array
    """(points,)"""
    losses: Array
    """(copies, points); the first copy is what was measured."""
    budgets: Array
    """(budgets,)"""
    best_losses: Array
    """(copies, budgets), the isoFLOP optima of each copy."""


@dataclass(frozen=True)
class Targets:
    """Runs to predict, arrays of one length."""

    flops: Array
    n_params: Array
    num_tokens: Array


@dataclass(frozen=True)
class Form:
    """One hypothesis about the loss."""

    name: str
    formula: str
    on_frontier: bool
    """Whether it sees only the best loss of each budget, instead of every run's N and D."""
    floor: bool

    @property
    def parameters(self) -> int:
        return (2 if self.on_frontier else 4) + self.floor

    @property
    def weight(self) -> int:
        """Share in a forecast's mixture: a form with a floor contains the one without, and denoising losses have one.

        In the simulations of `benchmarks.forecast_calibration` (72 sweeps each of two designs at two noises) the median
        error of the mixture's median was -1.9 to -3.2 % at weights 1:1 and -.7 to +.7 % at 1:3, and its 90 % interval
        held the measured loss in 94 to 99 % and 96 to 100 %.
        """
        return 3 if self.floor else 1

    def refusal(self, sweep: Sweep) -> str:
        """Why the form cannot be fitted; empty where it can. An exact fit passes: the copies' noise spreads it."""
        points, what = (len(sweep.budgets), "budgets") if self.on_frontier else (len(sweep.n_params), "runs")
        return f"{points} {what} for {self.parameters} parameters" if points < self.parameters else ""

    def predict(self, sweep: Sweep, targets: Targets) -> Array:
        """Predicted loss of each copy at each target, shape (copies, targets)."""
        if self.on_frontier:
            known, wanted, exponents = [sweep.budgets], [targets.flops], FRONTIER_EXPONENTS[:, None]
            losses = sweep.best_losses
        else:
            known, wanted = [sweep.n_params, sweep.num_tokens], [targets.n_params, targets.num_tokens]
            exponents = np.stack(np.meshgrid(LAW_EXPONENTS, LAW_EXPONENTS), axis=-1).reshape(-1, 2)
            losses = sweep.losses
        units = [np.exp(np.log(axis).mean()) for axis in known]
        columns = self._columns(exponents, [axis / unit for axis, unit in zip(known, units, strict=True)])
        found = project(columns, losses, losses[0])
        at = self._columns(exponents, [axis / unit for axis, unit in zip(wanted, units, strict=True)])
        return np.einsum("rtk,rk->rt", at[found.chosen], found.coefficients)

    def _columns(self, exponents: Array, axes: list[Array]) -> Array:
        """Basis functions, shape (grid, points, terms): 1 for the floor, then one power for each axis."""
        powers = [axis ** -exponents[:, [i]] for i, axis in enumerate(axes)]
        return np.stack([np.ones_like(powers[0]), *powers] if self.floor else powers, axis=2)


FORMS = (
    Form("frontier_power", "L = K / C^gamma", on_frontier=True, floor=False),
    Form("frontier_floor", "L = E + K / C^gamma", on_frontier=True, floor=True),
    Form("chinchilla_no_floor", "L = A / N^alpha + B / D^beta", on_frontier=False, floor=False),
    Form("chinchilla", "L = E + A / N^alpha + B / D^beta", on_frontier=False, floor=True),
)
