"""What a plan says of every stage, of every phase and of a whole sweep."""

from dataclasses import asdict, dataclass
from typing import Any


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
        other_stages = [stage for stage in document.pop("stages") if stage["kind"] != "dit"]
        return {**document, "unknown": self.unknown, "runs": [asdict(run) for run in self.runs], "others": other_stages}
