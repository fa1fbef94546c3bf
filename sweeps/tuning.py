"""Learning rates found by trials: ordinary small runs at rates that Optuna asks for, a few at a time.

    own rates, Sobol points -> losses -> TPE's points -> losses -> ... -> the rates of the lowest loss

Which trials come next follows from the sweep and the losses so far, and from nothing else: there is no storage and no
lock, and whoever asks again, after a crash or on another machine, gets the same answer. Not here: running trials, and
keeping what they lead to (`sweeps.choices`).
"""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from scaling.core.errors import UserError
from scaling.core.records import Trial, Tuning
from scaling.core.specs import parse_spec
from scaling.core.store import read_document
from sweeps.ladder import Rates, trial_run
from sweeps.spec import SweepSpec, TuningSpec
from sweeps.stages import StageBuilder

SOBOL_TRIALS = 4
"""Trials that are spread evenly before TPE is asked, which needs some results to go by."""
DIGITS = 3
"""Significant digits of a rate. More would make ids depend on the last bits of a logarithm."""


def next_trials(sweep: SweepSpec, trials: Sequence[Trial]) -> list[Rates]:
    """The next trials, from those that are finished; none where there are enough."""
    tuning = _tuning_of(sweep)
    count = min(tuning.at_a_time, tuning.trials - len(trials))
    if count <= 0:
        return []
    if len(trials) < SOBOL_TRIALS:
        return _sobol_trials(sweep, tuning)[len(trials) : len(trials) + count]
    return _tpe_trials(tuning, trials, count)


def choose_rates(sweep: SweepSpec, trials: Sequence[Trial]) -> Tuning:
    """The trials and the one with the lowest loss. Raises UserError where every trial diverged."""
    tuning, best = _tuning_of(sweep), min(trials, key=_objective)
    if best.val_loss is None:
        highest = ", ".join(f"{name} down to {low:g}" for name, (low, _) in tuning.ranges.items())
        raise UserError(f"tuning: all {len(trials)} trials diverged, with {highest}; lower the ranges")
    return Tuning(asked=tuning.model_dump(mode="json"), trials=tuple(trials), chosen=best)


def kept_tuning(sweep: SweepSpec, stages: StageBuilder, path: Path) -> Tuning | None:
    """The tuning that a file keeps; None where there is none, or where it is of something else than this sweep asks:
    another section, or another run for a trial."""
    if sweep.tuning is None or not path.exists():
        return None
    kept = parse_spec(Tuning, read_document(path), str(path))
    same = kept.asked == sweep.tuning.model_dump(mode="json")
    same = same and all(stages.run(trial_run(sweep, trial.rates)).id == trial.run_id for trial in kept.trials)
    return kept if same else None


def _tuning_of(sweep: SweepSpec) -> TuningSpec:
    assert sweep.tuning is not None
    return sweep.tuning


def _objective(trial: Trial) -> float:
    """The loss that tuning minimizes; that of a run that diverged is infinite."""
    return math.inf if trial.val_loss is None else trial.val_loss


def _sobol_trials(sweep: SweepSpec, tuning: TuningSpec) -> list[Rates]:
    """The sweep's own rates, or the nearest in the ranges, and points of a scrambled Sobol sequence."""
    import numpy as np
    from scipy.stats.qmc import Sobol

    ranges = tuning.ranges
    base_rates = {name: min(max(getattr(sweep.optim, name), low), high) for name, (low, high) in ranges.items()}
    needed = SOBOL_TRIALS + tuning.at_a_time
    points = Sobol(len(ranges), rng=np.random.default_rng(tuning.seed)).random_base2(math.ceil(math.log2(needed)))
    logs = [
        {name: _between(ends, share) for (name, ends), share in zip(ranges.items(), point, strict=True)}
        for point in points
    ]
    return [base_rates, *logs]


def _between(ends: tuple[float, float], share: float) -> float:
    low, high = ends
    return _rounded(low * (high / low) ** share, ends)


def _rounded(rate: float, ends: tuple[float, float]) -> float:
    return min(max(float(f"{rate:.{DIGITS}g}"), ends[0]), ends[1])


def _tpe_trials(tuning: TuningSpec, trials: Sequence[Trial], count: int) -> list[Rates]:
    """TPE's points; each is chosen knowing that those before it are being tried."""
    import numpy as np
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    space: dict[str, Any] = {
        name: optuna.distributions.FloatDistribution(low, high, log=True) for name, (low, high) in tuning.ranges.items()
    }
    seed = int(np.random.SeedSequence((tuning.seed, len(trials))).generate_state(1)[0])
    sampler = optuna.samplers.TPESampler(n_startup_trials=0, multivariate=True, constant_liar=True, seed=seed)
    study = optuna.create_study(sampler=sampler)
    for trial in trials:
        study.add_trial(
            optuna.trial.create_trial(params=trial.rates, distributions=space, value=_objective(trial)),
        )
    suggestions = [study.ask(space).params for _ in range(count)]
    return [{name: _rounded(rate, tuning.ranges[name]) for name, rate in rates.items()} for rates in suggestions]
