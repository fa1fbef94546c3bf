"""The plan of a sweep: what its stages will cost on a machine, in GPUs, hours, US dollars and bytes. Which stages there
are is in `sweeps.phases`; what they cost on any machine is in `sweeps.planning.costs`. No torch."""

from collections.abc import Iterable, Sequence
from pathlib import Path

from sweeps.phases import Phase, PlannedPhases, planned_phases
from sweeps.planning.capacity import Capacity
from sweeps.planning.plan_values import Plan, PlannedPhase, PlannedStage
from sweeps.planning.pricing import Pricing
from sweeps.planning.updates import ClipSize
from sweeps.planning.wall_time import ScheduledJob, wall_hours
from sweeps.spec import StudySpec, SweepSpec

FIT_HOURS = 0.01
"""Hours for the law and its forecast on one core: half a minute."""


def plan(
    sweep: SweepSpec | StudySpec,
    runs: Path | None = None,
    capacity: Capacity | None = None,
    clip: ClipSize | None = None,
    known: PlannedPhases | None = None,
) -> Plan:
    """Prices a whole sweep. `clip` (frames, height, width) stands for the clips of a user's folder, which are not
    opened: by default the largest that the data spec allows, square. Worlds of several sizes are priced as the mixture
    that they are. `known` are the sweep's phases, if they are known already.

    Raises UserError where a user's folder is not usable.
    """
    known = known or planned_phases(sweep, runs)
    stages = known.stages
    pricing = Pricing(stages, runs, sweep.hardware, capacity, clip)
    lines = {identity: pricing.planned(identity) for identity in stages}
    repeats = {stage.id: phase.repeats for phase in reversed(known.phases) for stage in phase.stages}
    unfinished = {line.id: repeats[line.id] for line in lines.values() if not line.done}
    return Plan(
        sweep=sweep.name,
        phases=[_summed(phase, [lines[stage.id] for stage in phase.stages]) for phase in known.phases],
        stages=list(lines.values()),
        hours=_wall(known.phases, lines, pricing),
        gpu_hours=_sum(_times(lines[identity].gpu_hours, count) for identity, count in unfinished.items()) or 0.0,
        price=_sum(_times(lines[identity].price, count) for identity, count in unfinished.items()) or 0.0,
        disk_bytes=_sum(_times(line.disk_bytes, repeats[line.id]) for line in lines.values()) or 0.0,
        measured_runs=len(pricing.speeds.by_run),
        target_size=known.target_size,
        target_begun=known.target_begun,
    )


def _summed(phase: Phase, lines: Sequence[PlannedStage]) -> PlannedPhase:
    if not phase.stages:
        return PlannedPhase(phase.name, phase.after, 1, 0, 0, FIT_HOURS, 0.0, 0.0, 0.0)
    unfinished = [line for line in lines if not line.done]
    hours = [line.hours for line in unfinished]
    return PlannedPhase(
        name=phase.name,
        after=phase.after,
        count=len(lines) * phase.repeats,
        done=len(lines) - len(unfinished),
        gpus=max(line.gpus for line in lines),
        hours=None if None in hours else max((value for value in hours if value is not None), default=0.0),
        gpu_hours=_times(_sum(line.gpu_hours for line in unfinished), phase.repeats),
        price=_times(_sum(line.price for line in unfinished), phase.repeats),
        disk_bytes=_times(_sum(line.disk_bytes for line in lines), phase.repeats),
    )


def _wall(known: Sequence[Phase], lines: dict[str, PlannedStage], pricing: Pricing) -> float:
    """Longest first within a phase: a long run that starts last would run alone."""
    deciding = {phase.name for phase in known if phase.decides}
    jobs = []
    for phase in known:
        waits = tuple(name for name in phase.after if name in deciding)
        unfinished = [lines[stage.id] for stage in phase.stages if not lines[stage.id].done]
        for line in sorted(unfinished, key=lambda line: -(line.hours or 0.0)):
            after, hours, places_taken = (*line.parents.values(), *waits), line.hours or 0.0, pricing.places_taken(line)
            for number in range(phase.repeats):
                before = (f"{phase.name} {number - phase.at_a_time}",) if number >= phase.at_a_time else ()
                name = line.id if phase.repeats == 1 else f"{phase.name} {number}"
                jobs.append(ScheduledJob(name, (*after, *before), hours, places_taken))
        if phase.decides:
            jobs.append(_end(phase, known))
    return wall_hours(jobs, pricing.machine.places)


def _end(phase: Phase, known: Sequence[Phase]) -> ScheduledJob:
    """What is calculated on one core when the stages of a phase, or those of the phases before it, have ended."""
    earlier = [
        stage.id for earlier_phase in known if earlier_phase.name in phase.after for stage in earlier_phase.stages
    ]
    numbered = [f"{phase.name} {number}" for number in range(phase.repeats)]
    own_jobs = numbered if phase.repeats > 1 else [stage.id for stage in phase.stages]
    return ScheduledJob(phase.name, tuple(own_jobs or earlier), 0.0 if phase.stages else FIT_HOURS, 0)


def _times(value: float | None, count: int) -> float | None:
    return None if value is None else value * count


def _sum(values: Iterable[float | None]) -> float | None:
    """The sum of the known values; None where none is known."""
    known = [value for value in values if value is not None]
    return sum(known) if known else None
