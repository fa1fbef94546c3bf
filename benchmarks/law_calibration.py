"""How often the intervals of a law hold: simulated sweeps of a planted law with run noise, fitted and bootstrapped.

`python -m benchmarks.law_calibration` prints the table of docs/laws.md. Nothing here is used by a fit.
"""

import math
import sys
from dataclasses import dataclass

import numpy as np

from analysis.laws.bootstrap import bootstrap, interval
from analysis.laws.fit import fit_law
from analysis.laws.forms import C_AXIS, CHINCHILLA, D_AXIS, N_AXIS
from analysis.laws.newton import Objective
from analysis.laws.optimal_split import best_split
from analysis.laws.points import points
from analysis.laws.power import PowerLaw

PLANTED = {"E": 0.3, "A": 90.0, "B": 400.0, "alpha": 0.45, "beta": 0.5}
LEVEL = 0.90
DRAWS = 400
EXTRAPOLATION = 10.0
"""The law is asked for at the best run of this many times the largest compute."""
SIX_N = PowerLaw(6.0, 1.0)
QUANTITIES = ("E", "alpha", "beta", "a", "law", "new run")


@dataclass(frozen=True)
class SimulatedSweep:
    """Budgets of equal numbers of sizes, evenly spread in log N about the best."""

    budgets: int
    sizes: int
    span: float
    """Largest size over the best."""
    ratio: float
    """Ratio of one budget to the one below."""
    noise: float
    """Relative standard deviation of one run."""
    delta: float
    """Delta of the Huber loss."""

    def axes(self) -> dict[str, np.ndarray]:
        C = np.repeat(1e12 * self.ratio ** np.arange(self.budgets), self.sizes)
        spread = np.tile(np.geomspace(1 / self.span, self.span, self.sizes), self.budgets)
        N = best_split(CHINCHILLA, PLANTED, C, SIX_N)[0] * spread
        return {N_AXIS: N, D_AXIS: C / (6 * N), C_AXIS: C}


SWEEPS = (
    SimulatedSweep(3, 3, 3, 4, 0.01, math.inf),
    SimulatedSweep(4, 4, 4, 4, 0.01, math.inf),
    SimulatedSweep(4, 6, 4, 4, 0.01, math.inf),
    SimulatedSweep(6, 6, 6, 4, 0.01, math.inf),
    SimulatedSweep(6, 6, 6, 4, 0.03, math.inf),
    SimulatedSweep(9, 8, 8, 3, 0.01, math.inf),
    SimulatedSweep(4, 4, 4, 4, 0.01, 1e-3),
    SimulatedSweep(9, 8, 8, 3, 0.01, 1e-3),
)


def coverage(sweep: SimulatedSweep, trials: int) -> dict[str, float]:
    """Share of the trials in which each interval held the true value. The same arguments give the same shares."""
    axes = sweep.axes()
    truth = CHINCHILLA.predict(PLANTED, axes)
    N, D = best_split(CHINCHILLA, PLANTED, EXTRAPOLATION * axes[C_AXIS].max(), SIX_N)
    target = {N_AXIS: np.array([N]), D_AXIS: np.array([D])}
    true_loss = float(CHINCHILLA.predict(PLANTED, target)[0])
    rng = np.random.default_rng(0)
    covered = dict.fromkeys(QUANTITIES, 0)
    for seed in range(trials):
        measured = truth * np.exp(sweep.noise * rng.standard_normal(len(truth)))
        draws = bootstrap(fit_law(points(axes, measured), CHINCHILLA, Objective(sweep.delta)), draws=DRAWS, seed=seed)
        judged = draws.derived() | {"law": draws.curve(target)[:, 0], "new run": draws.new_runs(target)[:, 0]}
        new = true_loss * float(np.exp(sweep.noise * rng.standard_normal()))
        true_values = PLANTED | {"a": CHINCHILLA.share(PLANTED)[0], "law": true_loss, "new run": new}
        for name in QUANTITIES:
            low, high = interval(judged[name], LEVEL)
            covered[name] += low <= true_values[name] <= high
    return {name: count / trials for name, count in covered.items()}


def main(trials: int = 400) -> None:
    """Prints a row of coverage for each of SWEEPS."""
    print(f"{'runs':>14} {'noise':>6} {'delta':>6}" + "".join(f"{name:>9}" for name in QUANTITIES))
    for sweep in SWEEPS:
        shares = coverage(sweep, trials)
        design = f"{sweep.budgets} x {sweep.sizes} = {sweep.budgets * sweep.sizes}"
        row = "".join(f"{shares[name]:9.1%}" for name in QUANTITIES)
        print(f"{design:>14} {sweep.noise:>6.0%} {sweep.delta:>6g}{row}", flush=True)


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
