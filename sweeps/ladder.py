"""The runs of a ladder: the list that its law is fitted to, the target that it predicts, and the trials of its
tuning."""

from sweeps.settings import Run, RunSpec, settings_of
from sweeps.spec import SweepSpec, sized

Rates = dict[str, float]
"""Learning rates by field of `optim`."""


def ladder_runs(sweep: SweepSpec) -> list[Run]:
    """The runs that the law is fitted to, the most expensive first: a long run that starts last would run alone."""
    multiples = sorted(sweep.ladder, reverse=True)
    return [ladder_run(sweep, multiple, size) for multiple in multiples for size in reversed(sweep.ladder[multiple])]


def ladder_run(sweep: SweepSpec, multiple: float, size: str) -> Run:
    """The run of one size at one budget of the ladder."""
    if not sweep.branches:
        return _run(sweep, multiple, size)
    budgets = [budget for budget in sorted(sweep.ladder) if size in sweep.ladder[budget] and budget <= multiple]
    run = _run(sweep, multiple, size)
    # Samples of a branch are drawn at the moments that come after its trunk.
    after = tuple(share for share in sweep.evaluation.sample_at if share > 1 - sweep.optim.decay_fraction)
    spec = run.spec.replace(evaluation=sweep.evaluation.replace(sample_at=after))
    return run.replace(spec=spec, trunk_budgets=tuple(sweep.base_flops * budget for budget in budgets))


def target_run(sweep: SweepSpec, size: str) -> Run:
    """The run at the target's budget. It continues no trunk, because its size is known only after the ladder."""
    return _run(sweep, sweep.target, size).replace(alone=True)


def trial_run(sweep: SweepSpec, rates: Rates) -> Run:
    """A trial of the tuning: the run that the ladder would have of this size, budget and rates, so that neither is
    trained twice. It continues no trunk."""
    assert sweep.tuning is not None
    return _run(with_rates(sweep, rates), sweep.tuning.multiple, sweep.tuning.size)


def with_rates(sweep: SweepSpec, rates: Rates) -> SweepSpec:
    """The sweep whose every run is trained at these rates."""
    return sweep.replace(optim=sweep.optim.replace(**rates))


def _run(sweep: SweepSpec, multiple: float, size: str) -> Run:
    settings = settings_of(sweep) | {"dit": sized(sweep.dit, size)}
    spec = RunSpec(**settings, flop_budget=sweep.base_flops * multiple)
    return Run(spec=spec, size=size, multiple=multiple)
