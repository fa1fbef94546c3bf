"""A sweep as its file describes it: a ladder of runs whose law predicts a larger one (`SweepSpec`), or a plain list of
runs (`StudySpec`)."""

import math
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from scaling.accounting.presets import dit_preset
from scaling.core.label import compute_name
from scaling.core.specs import DiTSpec, Spec
from sweeps.hardware import HardwareSpec
from sweeps.settings import Run, RunSettings, RunSpec

FEWEST_RUNS = 6
"""Runs below the target that `analysis.forecast` needs."""
NAME = r"^[a-z0-9][a-z0-9_.-]*$"


class TuningSpec(Spec):
    """Trials that look for learning rates before the ladder is trained. See `sweeps.tuning`."""

    size: str
    """Size of the trials' model; the rates of other widths follow from its rates as docs/models.md says."""
    multiple: float = Field(1, gt=0)
    """Multiple of the base budget that one trial gets."""
    trials: int = Field(8, ge=2)
    """Number of trials."""
    at_a_time: int = Field(4, ge=1)
    """Number of trials that are chosen and run together."""
    muon_lr: tuple[float, float] | None = None
    """Lowest and highest rate of Muon to try, on a logarithmic scale; without it, the rate of `optim` is kept."""
    adamw_lr: tuple[float, float] | None = None
    """Lowest and highest rate of AdamW to try, likewise."""
    seed: int = Field(0, ge=0)
    """Seed of the choice of trials."""

    @property
    def ranges(self) -> dict[str, tuple[float, float]]:
        """Lowest and highest value by field of `optim`."""
        ranges = {"muon_lr": self.muon_lr, "adamw_lr": self.adamw_lr}
        return {name: ends for name, ends in ranges.items() if ends is not None}

    @model_validator(mode="after")
    def _check_ranges(self) -> Self:
        if not self.ranges:
            raise ValueError("no rate to tune: give muon_lr or adamw_lr, such as adamw_lr: [0.001, 0.03]")
        for name, (low, high) in self.ranges.items():
            if not 0 < low < high < math.inf:
                raise ValueError(f"{name} is [{low:g}, {high:g}], but must rise from a positive rate")
        return self


class SweepSpec(RunSettings):
    """A ladder: several model sizes at several budgets, and one larger budget whose loss is predicted before it is
    spent."""

    kind: Literal["ladder"] = "ladder"
    name: str = Field(pattern=NAME)
    """The name of the sweep, and of its output folder where no other is given."""
    tuning: TuningSpec | None = None
    """Trials that look for learning rates; without it, every model is trained at the rates of `optim`."""
    base_flops: float = Field(gt=0)
    """Training FLOPs of the base budget."""
    branches: bool = False
    """Whether the runs of one size share their beginning: one long run at a constant rate, which branches into a decay
    at every budget. Needs `optim.warmup_steps`, and a short `optim.decay_fraction`."""
    ladder: dict[float, tuple[str, ...]]
    """Model sizes that are trained at each multiple of the base budget, which may be below 1."""
    columns: tuple[float, ...] = ()
    """Multiples of the ladder whose best run is shown beside the target; by default 1 and 4 where the ladder has both,
    otherwise its lowest and its highest."""
    target: float = Field(32, gt=0)
    """Multiple of the base budget whose loss the law predicts."""
    target_sizes: tuple[str, ...]
    """Sizes that the law may choose from at the target."""
    hardware: HardwareSpec = HardwareSpec()
    """The machine that the sweep runs on when it runs here."""

    @model_validator(mode="after")
    def _ladder(self) -> Self:
        if min(self.ladder, default=0) <= 0:
            raise ValueError("ladder: give multiples of the base budget, above 0, such as 1 and 4")
        for where, names in [
            *((f"ladder.{k:g}", v) for k, v in self.ladder.items()),
            ("target_sizes", self.target_sizes),
        ]:
            for name in names:
                require_size(where, name)
            if not names or len(set(names)) < len(names):
                raise ValueError(f"{where}: names {'a size twice' if names else 'no size'}")
        require_no_shape(self.dit, "the ladder and target_sizes")
        runs = sum(len(names) for names in self.ladder.values())
        if runs < FEWEST_RUNS or len({name for names in self.ladder.values() for name in names}) < 2:
            raise ValueError(f"ladder: {runs} runs, but a forecast needs {FEWEST_RUNS}, of two sizes at least")
        if max(self.ladder) >= self.target:
            raise ValueError(f"target is {self.target:g}, but the ladder already trains at {max(self.ladder):g}")
        for multiple in self.columns:
            if multiple not in self.ladder:
                known = ", ".join(f"{ladder_multiple:g}" for ladder_multiple in sorted(self.ladder))
                raise ValueError(f"columns: {multiple:g} is not a multiple of the ladder, which has {known}")
        if len(set(self.columns)) < len(self.columns):
            raise ValueError("columns: names a multiple twice")
        return self

    @model_validator(mode="after")
    def _branches(self) -> Self:
        if self.branches and self.optim.warmup_steps is None:
            raise ValueError("branches: runs that share a beginning warm up alike; give optim.warmup_steps")
        if self.branches and self.optim.decay_fraction > 0.5:
            raise ValueError(
                f"branches: optim.decay_fraction is {self.optim.decay_fraction:g}, which leaves little to share; "
                "at most 0.5"
            )
        return self

    @model_validator(mode="after")
    def _tuning(self) -> Self:
        if self.tuning is None:
            return self
        require_size("tuning.size", self.tuning.size)
        if self.tuning.multiple >= self.target:
            raise ValueError(f"tuning.multiple is {self.tuning.multiple:g}, but trials are smaller than the target")
        if self.optim.optimizer == "adamw" and self.tuning.muon_lr is not None:
            raise ValueError(
                "tuning.muon_lr: no weight is trained by Muon where optim.optimizer is adamw; leave it out"
            )
        return self

    @property
    def compared(self) -> tuple[float, ...]:
        """Multiples of the ladder whose best run is a column beside the target, ascending."""
        if self.columns:
            return tuple(sorted(self.columns))
        return (1, 4) if {1, 4} <= self.ladder.keys() else tuple(sorted({min(self.ladder), max(self.ladder)}))

    @property
    def target_name(self) -> str:
        """The target's compute as people read it, such as `32x`."""
        return compute_name(self.target)


class StudySpec(Spec):
    """A list of runs that are compared with each other. Nothing is predicted."""

    kind: Literal["study"] = "study"
    name: str = Field(pattern=NAME)
    """The name of the sweep, and of its output folder where no other is given."""
    runs: tuple[Run, ...] = Field(min_length=1)
    """The runs, in the order in which tables show them."""
    fvd_of_runs: bool = False
    """Whether the Fréchet video distance of every run is measured."""
    hardware: HardwareSpec = HardwareSpec()
    """The machine that the sweep runs on when it runs here."""

    @model_validator(mode="after")
    def _distinct(self) -> Self:
        first_numbers: dict[RunSpec, int] = {}
        for number, run in enumerate(self.runs):
            spec = run.spec
            if spec in first_numbers:
                raise ValueError(f"runs.{number}: is the same run as runs.{first_numbers[spec]}; leave one out")
            first_numbers[spec] = number
        return self


Sweep = Annotated[SweepSpec | StudySpec, Field(discriminator="kind")]
"""Either kind of sweep, as a field of another spec."""


def require_size(where: str, name: str) -> DiTSpec:
    """The model of a named size. Raises ValueError, with the field `where`, where no size has that name."""
    try:
        return dit_preset(name)
    except ValueError as problem:
        raise ValueError(f"{where}: {problem}") from None


def require_no_shape(dit: DiTSpec, named_by: str) -> None:
    """Raises ValueError where a sweep that names sizes also gives a shape."""
    for field in ("width", "depth", "head_dim"):
        if getattr(dit, field) != DiTSpec.model_fields[field].default:
            raise ValueError(f"dit.{field}: {named_by} name the sizes; leave it out")


def sized(dit: DiTSpec, name: str) -> DiTSpec:
    """A diffusion transformer with the width, depth and heads of a named size. Raises ValueError for another name."""
    shape = dit_preset(name)
    return dit.replace(width=shape.width, depth=shape.depth, head_dim=shape.head_dim)
