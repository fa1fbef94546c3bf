"""The phases of a sweep: what comes after what, and the stages of each as far as they are known. No torch.

Three choices are the results' and not the sweep's: the learning rates, where they are tuned, the size at the target,
and which runs are the columns of the comparison. Until they are made, the rates of `optim` and the middle size stand
for those that will be chosen.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from scaling.core.stage import Stage, StageFolder
from sweeps.spec import SweepSpec
from sweeps.stages import Common, common_stages, ladder_stages, metrics_stage, run_stage, trunk_stages
from sweeps.tuning import found, trial_stage, with_rates

BARRIERS = ("tuning", "fit")
"""Phases whose end is waited for by stages that none of theirs is a parent of: these say what is trained next."""


@dataclass(frozen=True)
class Part:
    """One phase."""

    name: str
    after: tuple[str, ...]
    """Names of phases that it waits for."""
    stages: dict[str, Stage]
    """By their ids. None for the fit, which is no stage."""
    times: int = 1
    """Stages that each stands for: of a tuning's trials only the first, at the sweep's own rates, is known before."""
    at_a_time: int = 1
    """Of those."""

    @classmethod
    def of(cls, name: str, after: tuple[str, ...], stages: Iterable[Stage]) -> "Part":
        """Hashes the stages, once for all."""
        return cls(name, after, {stage.id: stage for stage in stages})


@dataclass(frozen=True)
class Outline:
    """All phases, in the order in which they can begin."""

    parts: list[Part]
    target_size: str
    target_begun: bool
    """Whether that size has been chosen, and a folder made for it."""

    @property
    def stages(self) -> dict[str, Stage]:
        """By their ids."""
        return {identity: stage for part in self.parts for identity, stage in part.stages.items()}


def outline_of(sweep: SweepSpec, runs: Path | None) -> Outline:
    """The phases of a sweep; `runs` shows which choices have been made. Hashes a user's folder, and raises UserError
    where it is not usable."""
    common = common_stages(sweep)
    tuning, sweep = _tuning(sweep, common, runs)
    size, begun = _target_size(sweep, common, runs)
    target = run_stage(sweep, common, sweep.target, size)
    ladder, trunks = ladder_stages(sweep, common)[::-1], trunk_stages(sweep, common)[::-1]
    columns = [_column(sweep, common, runs, multiple) for multiple in (1, 4)]
    after = ("tuning",) if tuning else ("latents",)
    parts = [
        Part.of("data", (), [common.data]),
        Part.of("VAE", ("data",), [common.vae]),
        Part.of("latents", ("VAE",), [common.latents]),
        Part.of("reference", ("data",), [common.reference]),
        *tuning,
        *([Part.of("trunks", after, trunks)] if trunks else []),
        Part.of("training", ("trunks",) if trunks else after, ladder),
        Part.of("fit", ("training",), []),
        Part.of("target", ("fit",), [target]),
        Part.of("metrics", ("reference", "fit", "target"), [*columns, metrics_stage(sweep, common, target)]),
        Part.of("reconstruction", ("VAE", "reference"), [common.reconstruction]),
    ]
    return Outline(parts, size, begun)


def _tuning(sweep: SweepSpec, common: Common, runs: Path | None) -> tuple[list[Part], SweepSpec]:
    """The trials, and the sweep at the rates that they have found; at its own as long as they have not."""
    if sweep.tuning is None:
        return [], sweep
    if runs is not None and (said := found(sweep, common, runs.parent / "tuning.json")):
        trials = [trial_stage(sweep, common, trial.rates) for trial in said.trials]
        return [Part.of("tuning", ("latents",), trials)], with_rates(sweep, said.chosen.rates)
    own = trial_stage(sweep, common, {})
    part = Part("tuning", ("latents",), {own.id: own}, sweep.tuning.trials, sweep.tuning.at_a_time)
    return [part], sweep


def is_done(runs: Path | None, identity: str) -> bool:
    """Whether the stage of this id is complete in a folder of runs."""
    return runs is not None and StageFolder(runs / identity).complete


def _column(sweep: SweepSpec, common: Common, runs: Path | None, multiple: int) -> Stage:
    """The metrics of the best run of a budget: of the one that has been measured, or else of the middle one."""
    sizes = sweep.ladder[multiple]
    stages = [metrics_stage(sweep, common, run_stage(sweep, common, multiple, size)) for size in sizes]
    return next((stage for stage in stages if is_done(runs, stage.id)), stages[len(stages) // 2])


def _target_size(sweep: SweepSpec, common: Common, runs: Path | None) -> tuple[str, bool]:
    """The size at the target, and whether it has been begun."""
    if runs is not None:
        for size in sweep.target_sizes:
            if (runs / run_stage(sweep, common, sweep.target, size).id).exists():
                return size, True
    return sweep.target_sizes[len(sweep.target_sizes) // 2], False
