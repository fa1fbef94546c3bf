"""A study in YAML: some runs, and fields that are varied over all of them in every combination.

runs:
  - {size: w64d2, multiple: 1}
vary:
  seed: [0, 1]                                     # an axis named by its field
  prediction:                                      # an axis of named variants, each with fields of its own
    velocity: {}
    clean: {dit.prediction: clean}
"""

import itertools
from collections.abc import Iterator, Mapping
from typing import Any, Self

from pydantic import Field, model_validator

from scaling.core.errors import UserError
from scaling.core.specs import Spec, parse_spec
from sweeps.dotted_fields import set_field
from sweeps.hardware import HardwareSpec
from sweeps.planning.updates import update_flops
from sweeps.settings import Run, RunSettings, RunSpec, settings_of
from sweeps.spec import NAME, StudySpec, require_no_shape, require_size, sized

FieldValues = Mapping[str, Any]
"""Values by dotted name, such as `optim.adamw_lr`."""


class StudyRun(Spec):
    """One entry of `runs`: a model and its budget, as a multiple of `base_flops` or as a number of updates."""

    size: str
    """Name of the model's size, such as `w64d2`."""
    multiple: float | None = Field(None, gt=0)
    """Multiple of the base budget."""
    steps: int | None = Field(None, ge=1)
    """Updates, in place of a multiple."""

    @model_validator(mode="after")
    def _one_budget(self) -> Self:
        if (self.multiple is None) == (self.steps is None):
            raise ValueError("give exactly one of 'multiple' and 'steps'")
        require_size("size", self.size)
        return self


class StudyFile(RunSettings):
    """A study as its file describes it."""

    name: str = Field(pattern=NAME)
    """The name of the study, and of its output folder where no other is given."""
    base_flops: float | None = Field(None, gt=0)
    """Training FLOPs of the base budget, which `runs` name multiples of."""
    runs: tuple[StudyRun, ...] = Field(min_length=1)
    """Models and budgets."""
    vary: dict[str, list[Any] | dict[str, dict[str, Any]]] = {}
    """Axes of the study. An axis is a field with a list of values, or any name with named variants, each of which sets
    fields by their dotted names. Every run is trained in every combination of the axes' values."""
    fvd_of_runs: bool = False
    """Whether the Fréchet video distance of every run is measured."""
    hardware: HardwareSpec = HardwareSpec()
    """The machine that the study runs on when it runs here."""

    @model_validator(mode="after")
    def _budgets(self) -> Self:
        if self.base_flops is None and any(run.multiple is not None for run in self.runs):
            raise ValueError("base_flops: is missing, but runs name multiples of it")
        require_no_shape(self.dit, "the runs")
        for name, axis in self.vary.items():
            if not axis:
                raise ValueError(f"vary.{name}: has no value; give some, or leave the axis out")
        return self

    def expand(self, where: str) -> StudySpec:
        """The list of runs. Raises UserError, with the file `where`, where an axis sets a field that does not exist or
        a value that is not allowed."""
        runs = [self._run(entry, axes, where) for entry in self.runs for axes in self._combinations()]
        fields = {"name": self.name, "runs": runs, "fvd_of_runs": self.fvd_of_runs, "hardware": self.hardware}
        return parse_spec(StudySpec, fields, where)

    def _combinations(self) -> Iterator[dict[str, tuple[str, FieldValues]]]:
        """Every combination of the axes: by axis, the name of the value and the fields that it sets."""
        choices = [[(name, value) for value in _values(name, axis)] for name, axis in self.vary.items()]
        for combination in itertools.product(*choices):
            yield dict(combination)

    def _run(self, entry: StudyRun, axes: Mapping[str, tuple[str, FieldValues]], where: str) -> Run:
        document: dict[str, Any] = settings_of(self) | {"dit": sized(self.dit, entry.size)}
        changes = {field: (axis, value) for axis, (_, fields) in axes.items() for field, value in fields.items()}
        if changes:
            document = RunSettings(**document).model_dump(mode="json")
        for field, (axis, value) in changes.items():
            try:
                document = set_field(document, field, value)
            except ValueError as problem:
                raise UserError(f"{where}: vary.{axis}: {field}: {problem}") from None
        names = ", ".join(f"{axis} {name}" for axis, (name, _) in axes.items())
        settings = parse_spec(RunSettings, document, f"{where}: vary: {names}" if names else where)
        return Run(
            spec=RunSpec(**settings_of(settings), flop_budget=self._budget(entry, settings, where)),
            size=entry.size,
            multiple=entry.multiple,
            axes={axis: name for axis, (name, _) in axes.items()},
        )

    def _budget(self, entry: StudyRun, settings: RunSettings, where: str) -> float:
        if entry.steps is None:
            assert self.base_flops is not None
            assert entry.multiple is not None
            return self.base_flops * entry.multiple
        if settings.data.worlds is None:
            raise UserError(
                f"{where}: runs: what an update takes is known for worlds alone; give 'multiple' in place of 'steps'"
            )
        return entry.steps * update_flops(settings)


def _values(name: str, axis: list[Any] | dict[str, dict[str, Any]]) -> list[tuple[str, FieldValues]]:
    if isinstance(axis, list):
        return [(_name(value), {name: value}) for value in axis]
    return list(axis.items())


def _name(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)
