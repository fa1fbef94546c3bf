"""Time and objective of our fit of a Chinchilla law against the usual grid of L-BFGS starts, on the same objective.

    python -m benchmarks.fitting --data public/epoch_chinchilla/svg_extracted_data.csv

Hoffmann et al. 2022 (appendix D.3) and Besiroglu et al. 2024 minimize the sum of Huber losses of log residuals by
BFGS from each point of a grid of 4,500 starts. So does the reference here: SciPy's L-BFGS-B with the exact gradient
(which most tools lack) from the same grid. Without --data it makes 240 runs of a planted law with noise.
"""

import argparse
import json
import time
from pathlib import Path

import numpy as np
from scipy.optimize import minimize

from analysis.laws.bootstrap import bootstrap
from analysis.laws.fit import fit_law
from analysis.laws.forms import CHINCHILLA
from analysis.laws.newton import Objective
from analysis.laws.points import Points, points
from analysis.tables.read import TableOptions, read_table

GRID = {
    "alpha": np.arange(0, 2.5, 0.5),
    "beta": np.arange(0, 2.5, 0.5),
    "e": np.arange(-1, 1.5, 0.5),
    "a": np.arange(0, 30, 5.0),
    "b": np.arange(0, 30, 5.0),
}
"""The starts of Hoffmann et al. 2022, appendix D.3."""
REPEATS = 5


def reference(runs: Points, objective: Objective, starts: int) -> tuple[float, float, int]:
    """The lowest objective over evenly chosen starts of the grid, seconds for a start, and the size of the grid."""
    log_n, log_d, log_l = np.log(runs.axes["n_params"]), np.log(runs.axes["num_tokens"]), np.log(runs.metric)
    grid = np.stack(np.meshgrid(*GRID.values(), indexing="ij"), axis=-1).reshape(-1, len(GRID))

    def value(theta: np.ndarray) -> tuple[float, np.ndarray]:
        alpha, beta, e, a, b = theta
        terms = np.stack([np.full_like(log_n, e), a - alpha * log_n, b - beta * log_d])
        prediction = np.logaddexp.reduce(terms, axis=0)
        shares = np.exp(terms - prediction)
        residuals = log_l - prediction
        pull = -np.clip(residuals, -objective.delta, objective.delta)
        slopes = [-log_n * shares[1], -log_d * shares[2], *shares]
        return float(objective.huber(residuals).sum()), np.array([pull @ slope for slope in slopes])

    chosen = grid[np.linspace(0, len(grid) - 1, starts).astype(int)]
    began = time.perf_counter()
    values = [minimize(value, start, jac=True, method="L-BFGS-B", options={"maxiter": 1000}).fun for start in chosen]
    return min(values), (time.perf_counter() - began) / starts, len(grid)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, help="table of runs; its five highest losses are left out")
    parser.add_argument("--starts", type=int, default=0, help="starts of the grid to time; 0 for all 4,500")
    args = parser.parse_args()
    if args.data:
        table = read_table(args.data, TableOptions(drop_top=5))
        runs = points({name: table.axis(name) for name in CHINCHILLA.axes}, table.axis("loss"))
    else:
        runs = planted()
    objective = Objective()
    times = []
    for _ in range(REPEATS):
        began = time.perf_counter()
        fit = fit_law(runs, CHINCHILLA, objective)
        times.append(time.perf_counter() - began)
    began = time.perf_counter()
    bootstrap(fit, draws=4000, seed=0)
    resampling = time.perf_counter() - began
    lowest, per_start, size = reference(runs, objective, args.starts or int(np.prod([len(v) for v in GRID.values()])))
    result = {
        "points": len(runs),
        "fit_ms": 1e3 * float(np.median(times)),
        "bootstrap_4000_s": resampling,
        "grid_starts": size,
        "grid_s": per_start * size,
        "ratio": per_start * size / float(np.median(times)),
        "objective": fit.objective,
        "grid_objective": lowest,
    }
    print(json.dumps(result, indent=1))


def planted(count: int = 240) -> Points:
    """Runs of the public replication's law, 1 % noise."""
    rng = np.random.default_rng(0)
    axes = {"n_params": 10 ** rng.uniform(7.5, 10, count), "num_tokens": 10 ** rng.uniform(9, 11.5, count)}
    params = {"E": 1.82, "A": 480.0, "B": 2100.0, "alpha": 0.35, "beta": 0.37}
    return points(axes, CHINCHILLA.predict(params, axes) * np.exp(0.01 * rng.standard_normal(count)))


if __name__ == "__main__":
    main()
