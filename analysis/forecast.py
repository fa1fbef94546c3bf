"""What a larger run will reach, said before it starts: the best size, the loss, and an interval that means its level.

The forecast is a mixture. Four forms (`analysis.forms`) are each fitted to the runs and to noisy copies of them; all their
predictions together, with the noise of one new run, are the distribution. Its median is the prediction and its quantiles
the interval, so disagreement between the forms counts as much as noise does. Forms have equal weight: over a factor of
four in compute the data cannot tell them apart, and choosing the best-fitting one is what makes intervals too narrow.
"""

import numpy as np
import pandas as pd

from analysis.document import Backtest, Band, Comparison, Forecast, FormPrediction, LawCheck, OptimumRow
from analysis.forms import FORMS, Sweep, Targets
from analysis.frontier import Frontier, check_table, fit_frontier, fit_power, vertices
from analysis.law import Fit, fit_law
from analysis.varpro import Array
from scaling.errors import UserError
from scaling.records import RunRecord

LEVEL = 0.90
COPIES = 400
NOISE_FLOOR = 0.005
"""Least relative noise assumed of a run. With a handful of degrees of freedom small residuals are luck; repeated seeds of
small diffusion models differ by about this much. Assumption, not measured here."""
SAME_COMPUTE = 0.10
"""A measured run whose training FLOPs differ from the forecast's by more than this is another run."""


def forecast(table: pd.DataFrame, target_flops: float, *, seed: int = 0) -> Forecast:
    """Predicts the best run at `target_flops` from the runs with smaller budgets (`scaling.records.training_table`).

    Runs at or above the target are never looked at. Noise: the residuals of the Chinchilla law, least squares on log
    losses, give one relative size for all runs; each copy draws that size from its chi-squared uncertainty, then perturbs
    every run. (Residuals of the isoFLOP fits would not do: three sizes determine a parabola exactly.)

    Raises UserError where there are fewer than two budgets or six usable runs below the target.
    """
    usable, refusals = _usable(table, target_flops)
    frontier = fit_frontier(usable)
    law = _law(usable)
    rng = np.random.default_rng(seed)
    noise = _noise(law, rng)
    sweep = _noisy_copies(usable, noise, rng)
    exponents = _size_copies(usable, sweep)
    path = np.geomspace(min(sweep.budgets), target_flops, 33)
    targets = _targets(frontier, path)
    forms, mixture = [], []
    for form in FORMS:
        reason = form.refusal(sweep)
        if reason:
            refusals.append(f"{form.name}: {reason}")
            continue
        predicted = form.predict(sweep, targets)
        copies = predicted[1:]
        low, high = np.quantile(copies[:, -1], _tails())
        forms.append(
            FormPrediction(name=form.name, formula=form.formula, val_loss=predicted[0, -1], low=low, high=high)
        )
        mixture.append(copies * np.exp(noise[1:, None] * rng.standard_normal((len(copies), 1))))
    low, centre, high = np.quantile(np.concatenate(mixture), [_tails()[0], 0.5, _tails()[1]], axis=0)
    sizes = exponents[1:, 0] * target_flops ** exponents[1:, 1]
    n_low, n_high = np.quantile(sizes, _tails())
    refusals += [f"budget {optimum.flop_budget:.3g}: {optimum.refusal}" for optimum in frontier.optima if optimum.refusal]
    vae = usable["vae_id"].iloc[0] if "vae_id" in usable else None
    return Forecast(
        target_flops=target_flops,
        n_params=targets.n_params[-1],
        n_params_low=n_low,
        n_params_high=n_high,
        num_tokens=targets.num_tokens[-1],
        val_loss=centre[-1],
        low=low[-1],
        high=high[-1],
        level=LEVEL,
        noise=noise[0],
        a=frontier.n_params.exponent,
        b=frontier.num_tokens.exponent,
        forms=tuple(forms),
        law=_law_check(law, frontier, target_flops),
        optima=tuple(OptimumRow(**vars(optimum)) for optimum in frontier.optima),
        band=Band(flops=tuple(path), val_loss=tuple(centre), low=tuple(low), high=tuple(high)),
        backtest=_backtest(usable, seed),
        refusals=tuple(refusals),
        run_ids=tuple(usable["run_id"]),
        vae_id=vae if isinstance(vae, str) else None,
        seed=seed,
    )
