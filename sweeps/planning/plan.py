"""What stages will cost where, before any of them runs: GPUs, hours, price, disk; and the plan of a whole sweep. Which
stages there are, `sweeps.stages` says; what they cost on any machine, `sweeps.planning.costs`. No torch."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import Any

from scaling.core.records import read_record
from scaling.core.stage import Stage, StageFolder
from sweeps.phases import BARRIERS, Outline, Part, is_done, outline_of
from sweeps.planning.capacity import Capacity
from sweeps.planning.costs import ClipSize, Costs
from sweeps.planning.machines import Cluster, Machine, OwnHardware
from sweeps.planning.schedule import Job, wall_hours
from sweeps.planning.speed import Speeds, measured
from sweeps.spec import SweepSpec

FIT_HOURS = 0.01
"""Of the law and its forecast, on one core: half a minute."""


@dataclass(frozen=True)
class PlannedStage:
    """One line of a plan. N, D and C are the law's: parameters without embeddings, tokens, training FLOPs. None is not
    known before the data is there, or, of what only a training has, not there."""

    id: str
    kind: str
    slug: str
    size: str
    """Of a model, such as `w64d2`; empty for other stages."""
    compute: str
    parents: dict[str, str]
    gpus: int
    """0 for a CPU job."""
    hours: float | None
    """Wall time, as if nothing of it were done."""
    gpu_hours: float | None
    price: float | None
    """US dollars."""
    disk_bytes: float | None
    done: bool
    n_params: int | None = None
    num_tokens: float | None = None
    train_flops: float | None = None
    """Behind the weights at its end."""
    spent_flops: float | None = None
    """Of this stage itself: not those of the trunk that it goes on from."""
    steps: int | None = None
    measured: bool = False
    """Whether finished runs, and not the machine's description, say how fast it trains."""


@dataclass(frozen=True)
class Phase:
    """The stages of a sweep that do the same thing. Times and prices are of what is not done."""

    name: str
    after: tuple[str, ...]
    """Phases that it waits for."""
    count: int
    done: int
    gpus: int
    """Of its largest stage."""
    hours: float | None
    """Of its longest stage."""
    gpu_hours: float | None
    price: float | None
    disk_bytes: float | None
    """Of all its stages."""


@dataclass(frozen=True)
class Plan:
    """What a sweep will do and what it will cost."""

    sweep: str
    phases: list[Phase]
    """In the order in which they can begin."""
    stages: list[PlannedStage]
    """All of them, with the costs of each whether it is done or not."""
    hours: float
    """Wall time of what is not done, as many stages at a time as the machine has places for. Time in queues, and
    starting over after an interruption, is not in it."""
    gpu_hours: float
    price: float
    disk_bytes: float
    measured_runs: int
    """Finished runs whose speed it goes by; 0 where the speed is the machine description's."""
    target_size: str
    """At the target the size is the law's to choose, later: the one that has been begun, or the middle one."""
    target_begun: bool

    @property
    def runs(self) -> list[PlannedStage]:
        """The training runs that the law is fitted to or has to foretell, by budget."""
        return [stage for stage in self.stages if stage.kind == "dit"]

    @property
    def unknown(self) -> list[str]:
        """Phases whose time or disk is not known before the data is there."""
        return [phase.name for phase in self.phases if phase.hours is None or phase.disk_bytes is None]

    def to_document(self) -> dict[str, Any]:
        """The runs apart from the stages that they need."""
        document = asdict(self)
        stages = document.pop("stages")
        runs = [stage for stage in stages if stage["kind"] == "dit"]
        others = [stage for stage in stages if stage["kind"] != "dit"]
        return {**document, "unknown": self.unknown, "runs": runs, "others": others}


def price_stages(
    sweep: SweepSpec, stages: Sequence[Stage], runs: Path | None, capacity: Capacity | None = None
) -> list[PlannedStage]:
    """Prices any stages of a sweep, in their order. `runs` is where finished ones are looked for, and the parents that
    are not in the list. Without a capacity the sweep's own `hardware` section counts."""
    machine = _machine(sweep, capacity)
    ids = [stage.id for stage in stages]
    known = dict(zip(ids, stages, strict=True))
    pricing = _Pricing(sweep, known, runs, machine, measured(runs, machine.device), None)
    return [pricing.planned(identity) for identity in ids]


def plan(
    sweep: SweepSpec,
    runs: Path | None = None,
    capacity: Capacity | None = None,
    clip: ClipSize | None = None,
    outline: Outline | None = None,
) -> Plan:
    """Prices a whole sweep. `clip` (frames, height, width) stands for the clips of a user's folder, which are not
    opened: by default the largest that the data spec allows, square. Worlds of several sizes are priced as the mixture
    that they are. `outline` is the sweep's, if it has been made before."""
    outline = outline or outline_of(sweep, runs)
    stages, parts = outline.stages, outline.parts
    machine = _machine(sweep, capacity)
    speeds = measured(runs, machine.device)
    pricing = _Pricing(sweep, stages, runs, machine, speeds, clip)
    lines = {identity: pricing.planned(identity) for identity in stages}
    times = {identity: part.times for part in reversed(parts) for identity in part.stages}
    left = {line.id: times[line.id] for line in lines.values() if not line.done}
    return Plan(
        sweep=sweep.name,
        phases=[_summed(part, [lines[identity] for identity in part.stages]) for part in parts],
        stages=list(lines.values()),
        hours=_wall(parts, lines, pricing),
        gpu_hours=_sum(_times(lines[one].gpu_hours, many) for one, many in left.items()) or 0.0,
        price=_sum(_times(lines[one].price, many) for one, many in left.items()) or 0.0,
        disk_bytes=_sum(_times(line.disk_bytes, times[line.id]) for line in lines.values()) or 0.0,
        measured_runs=len(speeds.by_run),
        target_size=outline.target_size,
        target_begun=outline.target_begun,
    )


class _Pricing:
    """Prices stages, with what they share looked up once."""

    def __init__(
        self,
        sweep: SweepSpec,
        stages: Mapping[str, Stage],
        runs: Path | None,
        machine: Machine,
        speeds: Speeds,
        clip: ClipSize | None,
    ) -> None:
        self.runs, self.machine, self.near = runs, machine, cache(speeds.near)
        self.known = dict(stages)
        self.costs = Costs(sweep, self._find, clip, self._clip_count(stages))

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
            size=stage.slug.partition("-")[2],
            compute=stage.compute,
            parents=stage.parents,
            gpus=placed.gpus,
            hours=hours,
            gpu_hours=None if hours is None else hours * placed.gpus,
            price=None if hours is None else hours * placed.price_per_hour,
            disk_bytes=cost.disk_bytes,
            done=is_done(self.runs, identity),
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
        """Clips of a data stage that is complete."""
        for identity in [name for name, stage in stages.items() if stage.kind == "data"]:
            if self.runs is not None and is_done(self.runs, identity):
                count = read_record(self.runs / identity / "record.json").shape.get("clips")
                return count if isinstance(count, int) else None
        return None


def _machine(sweep: SweepSpec, capacity: Capacity | None) -> Machine:
    return OwnHardware(sweep.hardware) if capacity is None else Cluster(capacity)


def _summed(part: Part, lines: Sequence[PlannedStage]) -> Phase:
    if part.name == "fit":
        return Phase("fit", part.after, 1, 0, 0, FIT_HOURS, 0.0, 0.0, 0.0)
    left = [line for line in lines if not line.done]
    hours = [line.hours for line in left]
    return Phase(
        name=part.name,
        after=part.after,
        count=len(lines) * part.times,
        done=len(lines) - len(left),
        gpus=max(line.gpus for line in lines),
        hours=None if None in hours else max((one for one in hours if one is not None), default=0.0),
        gpu_hours=_times(_sum(line.gpu_hours for line in left), part.times),
        price=_times(_sum(line.price for line in left), part.times),
        disk_bytes=_times(_sum(line.disk_bytes for line in lines), part.times),
    )


def _wall(parts: Sequence[Part], lines: dict[str, PlannedStage], pricing: _Pricing) -> float:
    """Longest first within a phase: a long run that starts last would run alone."""
    jobs = []
    for part in parts:
        waits = tuple(name for name in part.after if name in BARRIERS)
        left = [lines[identity] for identity in part.stages if not lines[identity].done]
        for line in sorted(left, key=lambda line: -(line.hours or 0.0)):
            after, hours, taken = (*line.parents.values(), *waits), line.hours or 0.0, pricing.taken(line)
            for number in range(part.times):
                before = (f"{part.name} {number - part.at_a_time}",) if number >= part.at_a_time else ()
                name = line.id if part.times == 1 else f"{part.name} {number}"
                jobs.append(Job(name, (*after, *before), hours, taken))
        if part.name in BARRIERS:
            jobs.append(_end(part, parts))
    return wall_hours(jobs, pricing.machine.places)


def _end(part: Part, parts: Sequence[Part]) -> Job:
    """What is done on one core when the stages of a barrier, or those before the fit, have ended."""
    earlier = [identity for other in parts if other.name in part.after for identity in other.stages]
    own = [f"{part.name} {number}" for number in range(part.times)] if part.times > 1 else list(part.stages)
    return Job(part.name, tuple(own or earlier), 0.0 if part.stages else FIT_HOURS, 0)


def _times(value: float | None, count: int) -> float | None:
    return None if value is None else value * count


def _sum(values: Iterable[float | None]) -> float | None:
    """Of those that are known; None where none is."""
    found = [value for value in values if value is not None]
    return sum(found) if found else None
