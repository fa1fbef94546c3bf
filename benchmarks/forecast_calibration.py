"""How often a forecast's interval holds, and what its choice of N costs: simulated sweeps of laws that are known.

`python -m benchmarks.forecast_calibration` prints the table of docs/forecast.md. Nothing here is used by a forecast.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy.optimize import minimize_scalar

from analysis.forecast.ensemble import fit_ensemble
from analysis.laws.isoflop import isoflop_runs
from analysis.laws.power import fit_power
from analysis.tables.read import table_of_runs

Loss = Callable[[float, float], float]
"""Validation loss of N parameters trained with C FLOPs."""
LadderDesign = dict[int, tuple[float, ...]]
"""Sizes at each multiple of BASE."""
COLUMNS = ("run_id", "n_params", "num_tokens", "train_flops", "flop_budget", "val_loss")
BASE = 6e11
"""Training FLOPs of the smallest budget."""
TARGET = 32 * BASE
DESIGNS: dict[str, LadderDesign] = {
    "close sizes": {1: (95e3, 167e3, 234e3), 2: (95e3, 167e3, 234e3), 4: (167e3, 234e3, 522e3)},
    "wide sizes": {1: (43e3, 167e3, 522e3), 2: (95e3, 234e3, 522e3), 4: (167e3, 522e3, 978e3)},
}
"""Two ladders of the demo: an early one, and one as wide as that of sweeps/shipped/demo.yaml."""
NOISES = (0.01, 0.02)
"""Relative standard deviation of one run."""
BEST_AT_BASE = (5e4, 1.4e5)
"""The best N at BASE is drawn from here: at and below the smallest sizes, where real sweeps had it."""

LAWS = (
    # floor, alpha, beta, outer exponent; .6 at BASE. Falling to .26 to .30 at the target:
    (0.0, 0.50, 0.45, 1.0),
    (0.07, 0.50, 0.50, 1.0),
    (0.13, 0.60, 0.60, 1.0),
    (0.2, 0.80, 0.80, 1.0),
    # Falling to .38, as measured:
    (0.0, 0.26, 0.28, 1.0),
    (0.1, 0.36, 0.32, 1.0),
    (0.2, 0.50, 0.46, 1.0),
    (0.3, 0.70, 0.80, 1.0),
    # The best N grows as C^.4 and C^.6:
    (0.1, 0.50, 0.33, 1.0),
    (0.1, 0.33, 0.50, 1.0),
    # Not a form that is fitted: the sum of the two terms is bent, as in fits with an outer exponent.
    (0.13, 1.00, 0.80, 0.6),
    (0.13, 0.40, 0.50, 1.3),
)


@dataclass(frozen=True)
class SimulatedForecast:
    """One simulated sweep, its forecast, and the run at the target."""

    inside: bool
    width: float
    """Width of the interval, relative to the prediction."""
    error: float
    """predicted / measured - 1."""
    size_inside: bool
    """Whether the interval of N holds the best N."""
    excess: dict[str, float]
    """Rule -> loss at the chosen N over the least loss at the target, less 1, without noise. Rules: the joint isoFLOP
    fit of the forecast, a power law through each budget's own optimum, and the Chinchilla fit (the joint fit where that
    is refused)."""


def plant(floor: float, alpha: float, beta: float, outer: float, best_at_base: float = 9e4) -> Loss:
    """A law by which the best size at BASE reaches the loss .6."""
    reducible = (0.6 - floor) ** (1 / outer)
    A, B = reducible * beta / (alpha + beta), reducible * alpha / (alpha + beta)

    def loss(N: float, C: float) -> float:
        n, c = N / best_at_base, C / BASE
        return floor + (A * n**-alpha + B * (c / n) ** -beta) ** outer

    return loss


def trial(design: LadderDesign, law: int, noise: float, seed: int) -> SimulatedForecast:
    """Runs a design on one of LAWS and forecasts TARGET. The same arguments give the same trial."""
    rng = np.random.default_rng([seed, law])
    loss = plant(*LAWS[law], best_at_base=float(np.exp(rng.uniform(*np.log(BEST_AT_BASE)))))
    points = [(N, multiple * BASE) for multiple, sizes in design.items() for N in sizes]
    rows = [
        (str(i), N, C / (6 * N), C, C, loss(N, C) * np.exp(noise * rng.standard_normal()))
        for i, (N, C) in enumerate(points)
    ]
    runs = isoflop_runs(table_of_runs(pd.DataFrame(rows, columns=list(COLUMNS))))
    ensemble = fit_ensemble(runs, TARGET, seed=seed)
    joint = float(ensemble.n_params[-1])
    low, middle, high = (float(values[-1]) for values in (ensemble.low, ensemble.val_loss, ensemble.high))
    measured = loss(joint, TARGET) * np.exp(noise * rng.standard_normal())
    optima = ensemble.frontier.optima
    separate = fit_power([optimum.flop_budget for optimum in optima], [optimum.n_params for optimum in optima])
    chosen = {"joint": joint, "separate": float(separate(TARGET)), "law": ensemble.law_n_params or joint}
    ends = (np.log(1e4), np.log(1e8))
    best = minimize_scalar(lambda log_n: loss(np.exp(log_n), TARGET), bounds=ends, method="bounded")
    return SimulatedForecast(
        inside=low <= measured <= high,
        width=(high - low) / middle,
        error=middle / measured - 1,
        size_inside=ensemble.n_params_interval[0] <= np.exp(best.x) <= ensemble.n_params_interval[1],
        excess={rule: loss(N, TARGET) / best.fun - 1 for rule, N in chosen.items()},
    )


def main(seeds: int = 12) -> None:
    """Prints medians of width, bias and its size, and for the rest means, over LAWS and seeds."""
    rules = ("joint", "separate", "law")
    print(f"{'':12}noise inside width   bias |bias| N inside  excess loss by" + "".join(f"{r:>10}" for r in rules))
    for name, design in DESIGNS.items():
        for noise in NOISES:
            trials = [trial(design, law, noise, seed) for law in range(len(LAWS)) for seed in range(seeds)]
            table = pd.DataFrame([vars(simulated) | simulated.excess for simulated in trials])
            print(
                f"{name:12}{noise:5.0%}{table['inside'].mean():7.0%}{table['width'].median():6.0%}"
                f"{table['error'].median():+7.1%}{table['error'].abs().median():7.1%}{table['size_inside'].mean():9.0%}"
                f"{'':16}" + "".join(f"{table[rule].mean():10.1%}" for rule in rules),
                flush=True,
            )


if __name__ == "__main__":
    main()
