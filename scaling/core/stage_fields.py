"""The semantic fields of every kind of stage: what its result follows from, and what its id is a hash of."""

from typing import Annotated, Literal

from pydantic import Field

from scaling.core.specs import DataSpec, DiTSpec, EvalSpec, FVDSpec, OptimSpec, Spec, TextSpec, VAESpec, VAETrainSpec


class DataFields(Spec):
    """The semantic fields of a `data` stage, which has no parents."""

    kind: Literal["data"] = "data"
    data: DataSpec
    manifest: str | None = None
    """Hash of a user's folder: names, contents and captions. Worlds follow from their spec and need none."""


class VAEFields(Spec):
    """The semantic fields of a `vae` stage. Its parent is data."""

    kind: Literal["vae"] = "vae"
    vae: VAESpec
    train: VAETrainSpec


class LatentsFields(Spec):
    """The semantic fields of a `latents` stage. Its parents are data and vae."""

    kind: Literal["latents"] = "latents"
    text: TextSpec
    manifest: str | None = None
    """Hash of a user's text encoder: its weights, config and tokenizer. The other encoders' names identify them."""


class ReferenceFields(Spec):
    """The semantic fields of a `reference` stage, which holds the features of real clips. Its parent is data."""

    kind: Literal["reference"] = "reference"
    fvd: FVDSpec


class ReconstructionFields(Spec):
    """The semantic fields of a `reconstruction` stage. Its parents are vae and reference."""

    kind: Literal["reconstruction"] = "reconstruction"
    seed: int = Field(0, ge=0)
    """Seed of the extrapolation to infinitely many clips."""


class TrainingFields(Spec):
    """What the updates of a training run follow from."""

    dit: DiTSpec
    optim: OptimSpec
    flop_budget: float = Field(gt=0)
    """Training FLOPs asked for; the number of steps follows."""
    seed: int = Field(0, ge=0)
    """Seed of the first weights, the batches and the noise."""


class TrunkFields(TrainingFields):
    """The semantic fields of a `trunk` stage: the updates of a run before its learning rate falls. Its parents are vae,
    latents and, where there is one, the shorter trunk that it continues."""

    kind: Literal["trunk"] = "trunk"


class DiTFields(TrainingFields):
    """The semantic fields of a `dit` stage, a whole run. Its parents are vae, latents and, where there is one, its
    trunk."""

    kind: Literal["dit"] = "dit"
    evaluation: EvalSpec


class MetricsFields(Spec):
    """The semantic fields of a `metrics` stage. Its parents are dit, vae, latents and reference."""

    kind: Literal["metrics"] = "metrics"
    evaluation: EvalSpec


Fields = Annotated[
    DataFields
    | VAEFields
    | LatentsFields
    | ReferenceFields
    | ReconstructionFields
    | TrunkFields
    | DiTFields
    | MetricsFields,
    Field(discriminator="kind"),
]
"""The semantic fields of any stage; `kind` says which."""
