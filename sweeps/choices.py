"""What a sweep's results decide: learning rates, the size at the target, and the columns of the comparison.

`sweeps.phases` asks one of two: `AssumedChoices`, here, answers with what was decided before or, until then, with the
sweep's own rates and the middle sizes; `sweeps.measured_choices` makes the choices from complete runs.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from scaling.core.stage import Stage
from scaling.core.stage_folder import StageFolder
from sweeps.ladder import Rates, trial_run
from sweeps.settings import Run
from sweeps.spec import SweepSpec
from sweeps.stages import StageBuilder
from sweeps.tuning import kept_tuning


@dataclass(frozen=True)
class TrainedRun:
    """A run and its `dit` stage."""

    run: Run
    stage: Stage


@dataclass(frozen=True)
class Trials:
    """The trials of a tuning that are known so far."""

    stages: tuple[Stage, ...]
    rates: Rates | None
    """The rates that they lead to; None where that is not known yet."""
    repeats: int = 1
    """How many trials each of the stages stands for: before the first results only the first trial is known."""
    at_a_time: int = 1
    """How many of those run at a time."""


@dataclass(frozen=True)
class LadderOutcome:
    """What follows from a trained ladder."""

    target_size: str
    columns: tuple[TrainedRun, ...]
    """The best run of each budget that is compared with the target."""


class Choices(Protocol):
    """Answers the questions of `sweeps.phases`; None where the answer is not known yet."""

    def trials(self, sweep: SweepSpec, stages: StageBuilder) -> Trials:
        """The trials of the tuning, and the rates that they lead to."""

    def ladder_outcome(
        self, sweep: SweepSpec, stages: StageBuilder, ladder: Sequence[TrainedRun]
    ) -> LadderOutcome | None:
        """The size at the target, and the columns."""

    def target_has_loss(self, sweep: SweepSpec, target: Stage) -> bool:
        """Whether the target was trained to its end. Raises UserError where it diverged."""


class AssumedChoices:
    """Choices that a plan can go by before they are made. `runs` shows which have been made."""

    def __init__(self, runs: Path | None) -> None:
        self.runs = runs
        self.target_size = ""
        """The size that was answered."""
        self.target_begun = False
        """Whether that size has been chosen, and a folder made for it."""

    def trials(self, sweep: SweepSpec, stages: StageBuilder) -> Trials:
        assert sweep.tuning is not None
        kept = kept_tuning(sweep, stages, self.runs.parent / "tuning.json") if self.runs is not None else None
        if kept is not None:
            trained = [stages.run(trial_run(sweep, trial.rates), "tuning") for trial in kept.trials]
            return Trials(distinct(trained), kept.chosen.rates)
        base_trial = stages.run(trial_run(sweep, {}), "tuning")
        return Trials((base_trial,), {}, sweep.tuning.trials, sweep.tuning.at_a_time)

    def ladder_outcome(self, sweep: SweepSpec, stages: StageBuilder, ladder: Sequence[TrainedRun]) -> LadderOutcome:
        self.target_size = sweep.target_sizes[len(sweep.target_sizes) // 2]
        for size in sweep.target_sizes:
            target = stages.target(sweep, size)
            if self.runs is not None and (self.runs / target.id).exists():
                self.target_size, self.target_begun = size, True
                break
        return LadderOutcome(
            self.target_size, tuple(self._column(stages, ladder, multiple) for multiple in sweep.compared)
        )

    def target_has_loss(self, sweep: SweepSpec, target: Stage) -> bool:
        return True

    def _column(self, stages: StageBuilder, ladder: Sequence[TrainedRun], multiple: float) -> TrainedRun:
        """The run of a budget that has been measured, or else the middle one."""
        runs = [
            trained_run for trained_run in reversed(ladder) if trained_run.run.multiple == multiple
        ]  # in the order of the sweep
        for trained_run in runs:
            if (
                self.runs is not None
                and StageFolder(self.runs / stages.metrics(trained_run.run, trained_run.stage).id).complete
            ):
                return trained_run
        return runs[len(runs) // 2]


def distinct(stages: Iterable[Stage]) -> tuple[Stage, ...]:
    """Each stage once, in the order in which it comes first."""
    return tuple({stage.id: stage for stage in stages}.values())
