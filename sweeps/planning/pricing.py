"""Prices stages on a machine: hours, GPUs, US dollars, bytes."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from functools import cache
from pathlib import Path

from scaling.core.records import read_record
from scaling.core.stage import Stage
from scaling.core.stage_folder import StageFolder
from sweeps.hardware import HardwareSpec
from sweeps.planning.capacity import Capacity
from sweeps.planning.costs import Costs
from sweeps.planning.machines import Cluster, Machine, OwnHardware
from sweeps.planning.plan_values import PlannedStage
from sweeps.planning.speed import measured
from sweeps.planning.updates import ClipSize


def price_stages(
    hardware: HardwareSpec, stages: Sequence[Stage], runs: Path | None, capacity: Capacity | None = None
) -> list[PlannedStage]:
    """Prices any stages, in their order. `runs` is where finished ones are looked for, and the parents that are not in
    the list. Without a capacity the sweep's own hardware counts."""
    pricing = Pricing({stage.id: stage for stage in stages}, runs, hardware, capacity)
    return [pricing.planned(stage.id) for stage in stages]


class Pricing:
    """What stages cost on one machine; looks up once what they share."""

    def __init__(
        self,
        stages: Mapping[str, Stage],
        runs: Path | None,
        hardware: HardwareSpec,
        capacity: Capacity | None = None,
        clip: ClipSize | None = None,
    ) -> None:
        self.runs = runs
        self.machine: Machine = OwnHardware(hardware) if capacity is None else Cluster(capacity)
        self.speeds = measured(runs, self.machine.device)
        self.nearest_speed = cache(self.speeds.nearest)
        self.known = dict(stages)
        self.costs = Costs(self._find, clip, self._clip_count(stages))

    def planned(self, identity: str) -> PlannedStage:
        """The costs of one stage, whether it is done or not."""
        stage = self.known[identity]
        cost = self.costs.stage_cost(stage)
        training = cost.training
        measured_speed = self.nearest_speed(training.n_params) if training and training.n_params else None
        placed = self.machine.place(stage, training.spent_flops if training else 0.0, measured_speed)
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
            measured=measured_speed is not None,
        )

    def places_taken(self, line: PlannedStage) -> int:
        """How many places of the machine the stage takes while it runs."""
        return self.machine.place(self.known[line.id], line.spent_flops or 0.0, None).places_taken

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
