"""What a training run follows from: `RunSettings` for the runs of a whole sweep, `RunSpec` for one run."""

from typing import Any, Self

from pydantic import Field, field_validator, model_validator

from scaling.accounting.presets import VAE_PRESETS
from scaling.core.specs import (
    DataSpec,
    DiTSpec,
    EvalSpec,
    FVDSpec,
    OptimSpec,
    Spec,
    TextSpec,
    VAESpec,
    VAETrainSpec,
)


class RunSettings(Spec):
    """The data, the models, their training and what is measured."""

    data: DataSpec
    """The videos, and how clips are cut from them."""
    vae: VAESpec
    """The video VAE: its fields, or the name of a preset such as `tiny`."""
    vae_train: VAETrainSpec = VAETrainSpec()
    """How the VAE is trained."""
    text: TextSpec = TextSpec()
    """The frozen text encoder."""
    dit: DiTSpec = DiTSpec()
    """The diffusion transformer. Where a sweep names sizes, they replace its width, depth and head_dim."""
    optim: OptimSpec = OptimSpec()
    """How the diffusion transformer is trained."""
    evaluation: EvalSpec = EvalSpec()
    """What is measured and sampled of every run."""
    fvd: FVDSpec = FVDSpec()
    """The clips of the Fréchet video distance."""
    seed: int = Field(0, ge=0)
    """Seed of the diffusion transformer's weights, batches and noise."""

    @field_validator("vae", mode="before")
    @classmethod
    def _preset(cls, value: Any) -> Any:
        if not isinstance(value, str):
            return value
        if value not in VAE_PRESETS:
            raise ValueError(f"unknown preset '{value}'; known: {', '.join(VAE_PRESETS)}")
        return VAE_PRESETS[value]

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.fvd.frames > self.data.frames:
            raise ValueError(f"fvd.frames is {self.fvd.frames}, but clips have at most data.frames {self.data.frames}")
        needed = self.vae.spatial_stride * self.dit.patch
        if self.data.multiple % needed:
            raise ValueError(
                f"data.multiple is {self.data.multiple}, but VAE stride times DiT patch is {needed}: "
                "give a multiple of that"
            )
        crop, stride = self.vae_train.crop, self.vae.spatial_stride
        if crop % stride:
            raise ValueError(f"vae_train.crop is {crop}, which the VAE stride {stride} does not divide")
        if self.vae_train.crop_frames % 4 != 1:
            raise ValueError(f"vae_train.crop_frames is {self.vae_train.crop_frames}, but must be 1 + 4k")
        return self


class RunSpec(RunSettings):
    """One training run."""

    flop_budget: float = Field(gt=0)
    """Training FLOPs asked for; the number of updates follows."""


class Run(Spec):
    """A training run of a sweep, and what the sweep calls it."""

    spec: RunSpec
    """What the run follows from."""
    size: str = ""
    """Name of the model's size, such as `w64d2`."""
    multiple: float | None = None
    """Multiple of the sweep's base compute; None where the sweep has none."""
    axes: dict[str, str] = {}
    """The value of each axis that the sweep varies, by the name of the axis."""
    trunk_budgets: tuple[float, ...] = ()
    """Budgets in FLOPs, ascending, of the trunks that the run continues one after the other; none where it shares its
    beginning with no other run. The last is the run's own budget."""
    alone: bool = False
    """Whether the run has the machine to itself."""

    @property
    def slug(self) -> str:
        """The size as part of an id: its name, or else its shape."""
        return (self.size or f"w{self.spec.dit.width}d{self.spec.dit.depth}").lower()


def settings_of(spec: RunSettings) -> dict[str, Any]:
    """The fields of `RunSettings` in a spec that has more, by name."""
    return {name: getattr(spec, name) for name in RunSettings.model_fields}
