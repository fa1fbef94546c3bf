"""How well the end of a learning curve is predicted from its beginning: 92 public curves of four domains.

    python -m benchmarks.extrapolation public/revisiting

Alabdulmohsin et al. 2022 (arXiv 2209.06640) publish the curves, which points may be seen, and the score: root mean
square error of log loss over the rest. Each column is a way to fit: by least squares of log residuals a power law, one
with a floor, and the latter with weights that grow as x^.5 towards the later points.
"""

import sys
from pathlib import Path

import numpy as np
import pandas as pd

from analysis.laws.fit import fit_law
from analysis.laws.forms import law
from analysis.laws.newton import Objective
from analysis.laws.points import points

DOMAINS = {"IC": "image classification", "NMT": "translation", "LM": "language modeling", "BB": "BIG-Bench"}
METHODS = {"power": ("power", 0.0), "floor": ("power-floor", 0.0), "floor, weight .5": ("power-floor", 0.5)}


def curve_errors(folder: Path, form: str, weight_power: float) -> dict[str, list[float]]:
    """Domain -> the score of each of its curves."""
    curves = pd.concat([pd.read_csv(folder / f"benchmark.{name}.csv") for name in ("vision", "lang")])
    errors_of: dict[str, list[float]] = {domain: [] for domain in DOMAINS}
    for (domain, _, _), curve in curves[curves["Loss"] > 0].groupby(["Domain", "Task", "Model"]):
        fitted, held_out = curve[curve["Training"] == 1], curve[curve["Training"] != 1]
        early = points({"examples": fitted["Seen Examples"]}, fitted["Loss"]).weighted_by("examples", weight_power)
        fit = fit_law(early, law(form, "examples"), Objective(delta=np.inf))
        errors = np.log(fit.predict({"examples": held_out["Seen Examples"]}) / held_out["Loss"])
        errors_of[str(domain)].append(float(np.sqrt(np.square(errors).mean())))
    return errors_of


def main(folder: Path) -> None:
    """Prints the median score of each domain."""
    scores = {name: curve_errors(folder, *method) for name, method in METHODS.items()}
    print(f"{'':22}{'curves':>7}" + "".join(f"{name:>18}" for name in METHODS))
    for domain, title in DOMAINS.items():
        row = "".join(f"{np.median(score[domain]):18.4f}" for score in scores.values())
        print(f"{title:22}{len(scores['power'][domain]):7}{row}")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
