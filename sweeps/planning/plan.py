"""The plan of a sweep: what its stages will cost on a machine, in GPUs, hours, US dollars and bytes. Which stages there
are is in `sweeps.phases`; what they cost on any machine is in `sweeps.planning.costs`. No torch."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import Any

from scaling.core.records import read_record
from scaling.core.stage import Stage, StageFolder
from sweeps.hardware import HardwareSpec
from sweeps.phases import Phase, PlannedPhases, planned_phases
from sweeps.planning.capacity import Capacity
from sweeps.planning.costs import Costs
from sweeps.planning.machines import Cluster, Machine, OwnHardware
from sweeps.planning.schedule import ScheduledJob, wall_hours
from sweeps.planning.speed import Speeds, measured
from sweeps.planning.updates import ClipSize
from sweeps.spec import StudySpec, SweepSpec

FIT_HOURS = 0.01
"""Hours for the law and its forecast on one core: half a minute."""


@dataclass(frozen=True)
class PlannedStage:
    """One stage of a plan. A number is None where it is not known before the data is there, or where only training
    stages have it."""

    id: str
    kind: str
    slug: str
    phase: str
    """The phase of the sweep that the stage is labelled with."""
    size: str
    """Name of the model's size, such as `w64d2`; empty for other stages."""
    compute: str
    """The compute as people read it, such as `4x`; empty where the stage has no budget."""
    multiple: float | None
    """Multiple of the base compute."""
    axes: dict[str, str]
    """The value of each axis that the sweep varies."""
    parents: dict[str, str]
    gpus: int
    """Number of GPUs; 0 for a CPU job."""
    hours: float | None
    """Wall time of the whole stage, whether it is done or not."""
    gpu_hours: float | None
    price: float | None
    """Price in US dollars."""
    disk_bytes: float | None
    done: bool
    n_params: int | None = None
    num_tokens: float | None = None
    train_flops: float | None = None
    """Training FLOPs behind the weights at its end."""
    spent_flops: float | None = None
    """Training FLOPs of this stage itself, without those of the trunk that it continues."""
    steps: int | None = None
    measured: bool = False
    """Whether its speed was measured on finished runs; otherwise the machine's description gives it."""


@dataclass(frozen=True)
class PlannedPhase:
    """What the stages of one phase will cost. Times and prices are of what is not done."""

    name: str
    after: tuple[str, ...]
    """Names of the phases that it waits for."""
    count: int
    done: int
    gpus: int
    """GPUs of its largest stage."""
    hours: float | None
    """Wall time of its longest stage."""
    gpu_hours: float | None
    price: float | None
    disk_bytes: float | None
    """Bytes of all its stages."""


@dataclass(frozen=True)
class Plan:
    """What a sweep will do and what it will cost."""

    sweep: str
    phases: list[PlannedPhase]
    """The phases in the order in which they can begin."""
    stages: list[PlannedStage]
    """All stages, with the costs of each whether it is done or not."""
    hours: float
    """Wall time of what is not done, with as many stages at a time as the machine has places for. It does not count
    time in queues and work that is repeated after an interruption."""
    gpu_hours: float
    price: float
    disk_bytes: float
    measured_runs: int
    """Number of finished runs whose measured speed is used; 0 where the machine's description gives the speed."""
    target_size: str
    """The size at the target, which the law chooses later: the one that has been begun, or the middle one. Empty where
    the sweep has no target."""
    target_begun: bool

    @property
    def runs(self) -> list[PlannedStage]:
        """The training runs by budget and size."""
        runs = [stage for stage in self.stages if stage.kind == "dit"]
        return sorted(runs, key=lambda run: (run.multiple or 0.0, run.n_params or 0))

    @property
    def unknown(self) -> list[str]:
        """Phases whose time or disk is not known before the data is there."""
        return [phase.name for phase in self.phases if phase.hours is None or phase.disk_bytes is None]

    def to_document(self) -> dict[str, Any]:
        """The runs apart from the stages that they need."""
        document = asdict(self)
        others = [stage for stage in document.pop("stages") if stage["kind"] != "dit"]
        return {**document, "unknown": self.unknown, "runs": [asdict(run) for run in self.runs], "others": others}


def price_stages(
    hardware: HardwareSpec, stages: Sequence[Stage], runs: Path | None, capacity: Capacity | None = None
) -> list[PlannedStage]:
    """Prices any stages, in their order. `runs` is where finished ones are looked for, and the parents that are not in
    the list. Without a capacity the sweep's own hardware counts."""
    machine = _machine(hardware, capacity)
    known = {stage.id: stage for stage in stages}
    pricing = _Pricing(known, runs, machine, measured(runs, machine.device), None)
    return [pricing.planned(stage.id) for stage in stages]


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
    machine = _machine(sweep.hardware, capacity)
    speeds = measured(runs, machine.device)
    pricing = _Pricing(stages, runs, machine, speeds, clip)
    lines = {identity: pricing.planned(identity) for identity in stages}
    repeats = {stage.id: phase.repeats for phase in reversed(known.phases) for stage in phase.stages}
    left = {line.id: repeats[line.id] for line in lines.values() if not line.done}
    return Plan(
        sweep=sweep.name,
        phases=[_summed(phase, [lines[stage.id] for stage in phase.stages]) for phase in known.phases],
        stages=list(lines.values()),
        hours=_wall(known.phases, lines, pricing),
        gpu_hours=_sum(_times(lines[one].gpu_hours, many) for one, many in left.items()) or 0.0,
        price=_sum(_times(lines[one].price, many) for one, many in left.items()) or 0.0,
        disk_bytes=_sum(_times(line.disk_bytes, repeats[line.id]) for line in lines.values()) or 0.0,
        measured_runs=len(speeds.by_run),
        target_size=known.target_size,
        target_begun=known.target_begun,
    )


class _Pricing:
    """Prices stages; looks up once what they share."""

    def __init__(
        self,
        stages: Mapping[str, Stage],
        runs: Path | None,
        machine: Machine,
        speeds: Speeds,
        clip: ClipSize | None,
    ) -> None:
        self.runs, self.machine, self.near = runs, machine, cache(speeds.near)
        self.known = dict(stages)
        self.costs = Costs(self._find, clip, self._clip_count(stages))

    def planned(self, identity: str) -> PlannedStage:
        stage = self.known[identity]
        cost = self.costs.of(stage)
        training = cost.training
        near = self.near(training.n_params) if training and training.n_params else None
        placed = self.machine.place(stage, training.spent_flops if training else 0.0, near)
        hours = None
        if cost.other_flops is not None and cost.seconds is not None:
            trained = training.spent_flops / placed.training_speed if training else 0.0
            hours = (trained + cost.other_flops / placed.single_speed + cost.seconds) / 3600
        return PlannedStage(
            id=identity,
            kind=stage.kind,
            slug=stage.slug,
            phase=stage.phase,
            size=stage.size,
            compute=stage.compute,
            multiple=stage.multiple,
            axes=stage.axes,
            parents=stage.parents,
            gpus=placed.gpus,
            hours=hours,
            gpu_hours=None if hours is None else hours * placed.gpus,
            price=None if hours is None else hours * placed.price_per_hour,
            disk_bytes=cost.disk_bytes,
            done=_is_complete(self.runs, identity),
            **({} if training is None else asdict(training)),
            measured=near is not None,
        )

    def taken(self, line: PlannedStage) -> int:
        return self.machine.place(self.known[line.id], line.spent_flops or 0.0, None).taken

    def _find(self, identity: str) -> Stage | None:
        if identity not in self.known and self.runs is not None:
            folder = StageFolder(self.runs / identity)
            if folder.spec_path.exists():
                self.known[identity] = folder.stage()
        return self.known.get(identity)

    def _clip_count(self, stages: Mapping[str, Stage]) -> int | None:
        """Number of clips of a data stage that is complete."""
        for identity in [name for name, stage in stages.items() if stage.kind == "data"]:
            if self.runs is not None and _is_complete(self.runs, identity):
                count = read_record(self.runs / identity / "record.json").shape.get("clips")
                return count if isinstance(count, int) else None
        return None


def _is_complete(runs: Path | None, identity: str) -> bool:
    return runs is not None and StageFolder(runs / identity).complete


def _machine(hardware: HardwareSpec, capacity: Capacity | None) -> Machine:
    return OwnHardware(hardware) if capacity is None else Cluster(capacity)


def _summed(phase: Phase, lines: Sequence[PlannedStage]) -> PlannedPhase:
    if not phase.stages:
        return PlannedPhase(phase.name, phase.after, 1, 0, 0, FIT_HOURS, 0.0, 0.0, 0.0)
    left = [line for line in lines if not line.done]
    hours = [line.hours for line in left]
    return PlannedPhase(
        name=phase.name,
        after=phase.after,
        count=len(lines) * phase.repeats,
        done=len(lines) - len(left),
        gpus=max(line.gpus for line in lines),
        hours=None if None in hours else max((each for each in hours if each is not None), default=0.0),
        gpu_hours=_times(_sum(line.gpu_hours for line in left), phase.repeats),
        price=_times(_sum(line.price for line in left), phase.repeats),
        disk_bytes=_times(_sum(line.disk_bytes for line in lines), phase.repeats),
    )


def _wall(known: Sequence[Phase], lines: dict[str, PlannedStage], pricing: _Pricing) -> float:
    """Longest first within a phase: a long run that starts last would run alone."""
    deciding = {phase.name for phase in known if phase.decides}
    jobs = []
    for phase in known:
        waits = tuple(name for name in phase.after if name in deciding)
        left = [lines[stage.id] for stage in phase.stages if not lines[stage.id].done]
        for line in sorted(left, key=lambda line: -(line.hours or 0.0)):
            after, hours, taken = (*line.parents.values(), *waits), line.hours or 0.0, pricing.taken(line)
            for number in range(phase.repeats):
                before = (f"{phase.name} {number - phase.at_a_time}",) if number >= phase.at_a_time else ()
                name = line.id if phase.repeats == 1 else f"{phase.name} {number}"
                jobs.append(ScheduledJob(name, (*after, *before), hours, taken))
        if phase.decides:
            jobs.append(_end(phase, known))
    return wall_hours(jobs, pricing.machine.places)


def _end(phase: Phase, known: Sequence[Phase]) -> ScheduledJob:
    """What is calculated on one core when the stages of a phase, or those of the phases before it, have ended."""
    earlier = [stage.id for other in known if other.name in phase.after for stage in other.stages]
    numbered = [f"{phase.name} {number}" for number in range(phase.repeats)]
    own = numbered if phase.repeats > 1 else [stage.id for stage in phase.stages]
    return ScheduledJob(phase.name, tuple(own or earlier), 0.0 if phase.stages else FIT_HOURS, 0)


def _times(value: float | None, count: int) -> float | None:
    return None if value is None else value * count


def _sum(values: Iterable[float | None]) -> float | None:
    """The sum of the known values; None where none is known."""
    known = [value for value in values if value is not None]
    return sum(known) if known else None
