"""Are the suggested runs worth more than evenly spread ones of equal cost? Simulated sweeps of a planted law.

    python -m benchmarks.suggestions

Each row is eight sweeps of 3 x 4 or 4 x 5 isoFLOP runs with 1 % noise, and a further compute to spend, in units of the
largest run. Widths are of the 90 % interval of the law at 8 times the largest compute, medians: now, with the suggested
runs, and with as many runs evenly spread over the same sizes.
"""

import math

import numpy as np

from analysis.forecast.runs_to_add import suggest
from analysis.laws.bootstrap import bootstrap
from analysis.laws.fit import fit_law
from analysis.laws.forms import C_AXIS, CHINCHILLA
from analysis.laws.newton import Objective
from analysis.laws.points import points
from benchmarks.law_calibration import PLANTED, SimulatedSweep

SWEEPS = (SimulatedSweep(3, 4, 4, 4, 0.01, math.inf), SimulatedSweep(4, 5, 4, 4, 0.01, math.inf))
SHARES = (0.25, 0.5, 1.0, 3.0)
TRIALS = 8


def main() -> None:
    print(f"{'runs':>12}{'to spend':>10}{'now':>8}{'suggested':>11}{'even':>8}{'narrower':>10}{'runs added':>12}")
    for sweep in SWEEPS:
        axes = sweep.axes()
        truth, largest = CHINCHILLA.predict(PLANTED, axes), float(axes[C_AXIS].max())
        for share in SHARES:
            suggestions = []
            for seed in range(TRIALS):
                noise = np.random.default_rng(seed).standard_normal(len(truth))
                measured = points(axes, truth * np.exp(sweep.noise * noise))
                fit = fit_law(measured, CHINCHILLA, Objective(sweep.delta))
                suggestions.append(suggest(bootstrap(fit, draws=200, seed=0), 8 * largest, share * largest, seed=seed))
            width_now, width_then, width_even = (
                float(np.median([getattr(suggestion, name) for suggestion in suggestions]))
                for name in ("width_now", "width_then", "width_even")
            )
            wins = sum(suggestion.width_then < suggestion.width_even for suggestion in suggestions)
            added = float(np.median([len(suggestion.runs) for suggestion in suggestions]))
            print(
                f"{f'{sweep.budgets} x {sweep.sizes}':>12}{share:>9g}x{width_now:8.2%}{width_then:11.2%}"
                f"{width_even:8.2%}{f'{wins} of {TRIALS}':>10}{added:12g}",
                flush=True,
            )


if __name__ == "__main__":
    main()
