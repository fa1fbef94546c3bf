"""The phases of a sweep: what comes after what, written once. Plan, controller and explanation all read it.

    ladder   data > VAE > latents > (tuning >) (trunks >) training > fit > target > target metrics
                                                                      fit > metrics of the columns
    study    data > VAE > latents > training (> metrics)

What a later phase holds may depend on results; `sweeps.choices` answers that. No torch.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from scaling.core.stage import Stage
from sweeps.choices import AssumedChoices, Choices, TrainedRun, distinct
from sweeps.ladder import ladder_runs, target_run, with_rates
from sweeps.spec import StudySpec, SweepSpec
from sweeps.stages import SharedStages, StageBuilder


@dataclass(frozen=True)
class Phase:
    """Stages of a sweep that do the same thing."""

    name: str
    after: tuple[str, ...]
    """Names of the phases that it waits for."""
    stages: tuple[Stage, ...]
    """None for `fit`, which is a calculation and not a stage."""
    decides: bool = False
    """Whether its results decide what later phases hold, so that they wait for all of it."""
    repeats: int = 1
    """How many stages each of `stages` stands for."""
    at_a_time: int = 1
    """How many of those run at a time."""
    note: str = ""
    """How far it has come, where that is not a number of stages."""

    @property
    def by_id(self) -> dict[str, Stage]:
        """Its stages by their ids."""
        return {stage.id: stage for stage in self.stages}


def phases(sweep: SweepSpec | StudySpec, stages: StageBuilder, choices: Choices) -> Iterator[Phase]:
    """The phases, in the order in which they can begin, as far as `choices` knows what they hold.

    Raises UserError where a user's folder is not usable, and what the choices raise.
    """
    return _study(sweep, stages) if isinstance(sweep, StudySpec) else _ladder(sweep, stages, choices)


@dataclass(frozen=True)
class PlannedPhases:
    """All phases of a sweep, with assumptions in place of what its results have not decided yet."""

    phases: list[Phase]
    target_size: str
    """The size at the target: the one that has been begun, or the middle one; empty where there is no target."""
    target_begun: bool
    """Whether the target has been begun."""

    @property
    def stages(self) -> dict[str, Stage]:
        """All stages by their ids, parents first."""
        return stages_of(self.phases)


def planned_phases(sweep: SweepSpec | StudySpec, runs: Path | None) -> PlannedPhases:
    """All phases of a sweep, before it is run or at any time later; `runs` shows what has been decided.

    Raises UserError where a user's folder is not usable.
    """
    choices = AssumedChoices(runs)
    known = list(phases(sweep, StageBuilder.for_sweep(sweep), choices))
    return PlannedPhases(known, choices.target_size, choices.target_begun)


def stages_of(known: Iterable[Phase]) -> dict[str, Stage]:
    """All stages of these phases by their ids, parents first."""
    return {stage.id: stage for phase in known for stage in phase.stages}


def possible_stages(sweep: SweepSpec | StudySpec, stages: StageBuilder) -> dict[str, Stage]:
    """Every stage that a sweep may come to, whatever its runs will show, by id: the target in all its sizes, and the
    metrics of every run."""
    if isinstance(sweep, StudySpec):
        runs = [TrainedRun(run, stages.run(run)) for run in sweep.runs]
    else:
        runs = [TrainedRun(run, stages.run(run)) for run in ladder_runs(sweep)]
        runs += [TrainedRun(target_run(sweep, size), stages.target(sweep, size)) for size in sweep.target_sizes]
    shared = [stages.shared(trained_run.run.spec) for trained_run in runs]
    possible = [
        *(stage for group in shared for stage in (group.data, group.vae, group.latents, group.reference)),
        *(group.reconstruction for group in shared),
        *(trunk for trained_run in runs for trunk in stages.trunks(trained_run.run)),
        *(trained_run.stage for trained_run in runs),
        *(stages.metrics(trained_run.run, trained_run.stage) for trained_run in runs),
    ]
    return {stage.id: stage for stage in possible}


def _ladder(sweep: SweepSpec, stages: StageBuilder, choices: Choices) -> Iterator[Phase]:
    yield from _shared_phases([stages.shared(sweep)])
    before = "latents"
    if sweep.tuning is not None:
        trials = choices.trials(sweep, stages)
        note = f"{len(trials.stages)} of {sweep.tuning.trials} trials"
        yield Phase("tuning", ("latents",), trials.stages, True, trials.repeats, trials.at_a_time, note)
        if trials.rates is None:
            return
        sweep, before = with_rates(sweep, trials.rates), "tuning"
    ladder = [TrainedRun(run, stages.run(run)) for run in ladder_runs(sweep)]
    yield from _training_phases(stages, ladder, before)
    yield Phase("fit", ("training",), (), decides=True)
    outcome = choices.ladder_outcome(sweep, stages, ladder)
    if outcome is None:
        return
    target = stages.target(sweep, outcome.target_size)
    measured = tuple(stages.metrics(trained_run.run, trained_run.stage) for trained_run in outcome.columns)
    yield Phase("metrics", ("reference", "fit"), measured)
    yield Phase("target", ("fit",), (target,), decides=True)
    if not choices.target_has_loss(sweep, target):
        return
    run = target_run(sweep, outcome.target_size)
    yield Phase("target metrics", ("reference", "target"), (stages.metrics(run, target, "target metrics"),))


def _study(sweep: StudySpec, stages: StageBuilder) -> Iterator[Phase]:
    runs = [TrainedRun(run, stages.run(run)) for run in sweep.runs]
    yield from _shared_phases([stages.shared(trained_run.run.spec) for trained_run in runs], measured=sweep.fvd_of_runs)
    yield from _training_phases(stages, runs, "latents")
    if sweep.fvd_of_runs:
        measured = tuple(stages.metrics(trained_run.run, trained_run.stage) for trained_run in runs)
        yield Phase("metrics", ("reference", "training"), measured)


def _shared_phases(shared: Sequence[SharedStages], measured: bool = True) -> Iterator[Phase]:
    """Data, VAE and latents, each once however many runs need it; where anything is measured with them, the reference
    and the VAE's own metrics."""
    yield Phase("data", (), distinct(group.data for group in shared))
    yield Phase("VAE", ("data",), distinct(group.vae for group in shared))
    yield Phase("latents", ("VAE",), distinct(group.latents for group in shared))
    if measured:
        yield Phase("reference", ("data",), distinct(group.reference for group in shared))
        yield Phase("reconstruction", ("VAE", "reference"), distinct(group.reconstruction for group in shared))


def _training_phases(stages: StageBuilder, runs: Sequence[TrainedRun], before: str) -> Iterator[Phase]:
    trunks = distinct(trunk for trained_run in runs for trunk in stages.trunks(trained_run.run))
    if trunks:
        yield Phase("trunks", (before,), trunks)
    yield Phase("training", ("trunks",) if trunks else (before,), distinct(trained_run.stage for trained_run in runs))
