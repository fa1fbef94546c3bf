"""What a run is: frozen, validated values. Nothing here trains, reads a video or imports torch.

A spec holds semantic fields only, so hashing it names the result (see `scaling.core.identity`). Where a run executes,
and on how many threads, is not part of a spec.
"""

from collections.abc import Mapping
from difflib import get_close_matches
from math import gcd
from pathlib import Path
from typing import Any, Literal, Self, TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from scaling.core.errors import UserError

Prediction = Literal["velocity", "clean"]
"""What a network of the flow predicts: dz/dt, or the clean data."""

Solver = Literal["euler", "heun", "multistep"]
"""How the flow is integrated: one, two, or one evaluation a step with memory of the last. See
`scaling.diffusion.solvers`."""


class Spec(BaseModel):
    """Base of every spec: immutable, and an unknown field is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, use_attribute_docstrings=True)

    def replace(self, **changes: Any) -> Self:
        """A copy with some fields changed, validated like any other spec. Raises ValidationError, a ValueError, where a
        field is unknown or its value not allowed."""
        return type(self).model_validate({name: getattr(self, name) for name in type(self).model_fields} | changes)


class WorldShape(Spec):
    """Size of a world's video."""

    frames: int = Field(ge=1)
    """1 makes an image: a video file of one frame."""
    height: int = Field(ge=16, multiple_of=2)
    """Pixels; even, because H.264 with 4:2:0 chroma needs it."""
    width: int = Field(ge=16, multiple_of=2)
    """Pixels."""


class WorldSpec(Spec):
    """Procedural two-dimensional physics worlds, written as video files."""

    count: int = Field(2048, ge=1)
    """Number of video files."""
    seed: int = Field(0, ge=0)
    """World `i` depends on (seed, i) alone."""
    frames: int = Field(68, ge=1)
    """Frames in each file."""
    fps: int = Field(8, ge=1, le=120)
    """Frames per second of each file."""
    width: int = Field(64, ge=16, multiple_of=2)
    """Pixels; even, because H.264 with 4:2:0 chroma needs it."""
    height: int = Field(64, ge=16, multiple_of=2)
    """Pixels."""
    max_objects: int = Field(2, ge=1, le=6)
    """A world holds one to this many objects."""
    shapes: tuple[WorldShape, ...] = ()
    """Sizes that the worlds take in turn; `frames`, `height` and `width` then mean nothing."""

    def shape(self, index: int) -> WorldShape:
        """The size of world `index`."""
        return self.sizes[index % len(self.sizes)]

    @property
    def sizes(self) -> tuple[WorldShape, ...]:
        """The sizes that there are, of which as many worlds have each as any other."""
        return self.shapes or (WorldShape(frames=self.frames, height=self.height, width=self.width),)


class DataSpec(Spec):
    """Which videos, and how clips are cut from them. Exactly one of `worlds` and `folder` is given."""

    worlds: WorldSpec | None = None
    """Videos made here from a seed."""
    folder: str | None = None
    """A user's folder of videos, searched recursively."""
    captions: str | None = None
    """CSV or JSONL with `file` and `caption`; without it, `captions.csv|jsonl` in the folder, then the file names."""
    frames: int = Field(17, ge=1)
    """Longest clip; 1 + 4k, because the VAE keeps the first frame and compresses the rest by four."""
    fps: float = Field(8.0, gt=0)
    """Clips are resampled to this rate by nearest frame; slower videos keep their own rate."""
    pixels: int = Field(4096, ge=256)
    """Area budget: a clip keeps its aspect ratio and is scaled down until width times height is at most this."""
    multiple: int = Field(16, ge=1)
    """Width and height are rounded down to a multiple of this (VAE spatial stride times DiT patch)."""
    images: bool = False
    """Whether one-frame files count, as one-frame clips."""
    holdout_every: int = Field(16, ge=2)
    """Every k-th video is held out, for validation and for the metrics; of few videos, the last k-th of their clips."""

    @model_validator(mode="after")
    def _one_source(self) -> Self:
        if (self.worlds is None) == (self.folder is None):
            raise ValueError("give exactly one of 'worlds' and 'folder'")
        if self.frames % 4 != 1:
            raise ValueError(f"frames is {self.frames}, but must be 1 + 4k, such as {max(1, self.frames // 4 * 4 + 1)}")
        if self.worlds is not None:
            self._lets_through(self.worlds)
        return self

    def _lets_through(self, worlds: WorldSpec) -> None:
        """Raises ValueError where a size of worlds would be changed or left out, or where no training clip has it."""
        for number, shape in enumerate(worlds.sizes):
            where = f"worlds.shapes.{number}" if worlds.shapes else "worlds"
            for side in ("width", "height"):
                if getattr(shape, side) % self.multiple:
                    raise ValueError(f"{where}.{side} is {getattr(shape, side)}, which {self.multiple} does not divide")
            if worlds.shapes and shape.width * shape.height > self.pixels:
                raise ValueError(
                    f"{where} is {shape.width}x{shape.height}, {shape.width * shape.height} pixels, but 'pixels' is "
                    f"{self.pixels}: raise it"
                )
            if worlds.shapes and shape.frames == 1 and not self.images:
                raise ValueError(f"{where}.frames is 1, an image: set 'images' to true to count it")
            if worlds.shapes and 1 < shape.frames < 5:
                raise ValueError(f"{where}.frames is {shape.frames}, but a clip has 1 frame or at least 5")
        if gcd(len(worlds.sizes), self.holdout_every) > 1:
            raise ValueError(
                f"holdout_every is {self.holdout_every}, which would hold out only some of the {len(worlds.sizes)} "
                "worlds.shapes: give a number that shares no divisor with that"
            )


class VAEStage(Spec):
    """One level of the VAE's pyramid."""

    width: int = Field(ge=4)
    """Channels of the residual blocks."""
    down: Literal["none", "space", "time", "both"] = "none"
    """What is halved after this level."""

    @property
    def halves_space(self) -> bool:
        return self.down in ("space", "both")

    @property
    def halves_time(self) -> bool:
        return self.down in ("time", "both")


class VAESpec(Spec):
    """A causal video VAE: 1 + T frames become 1 + T/4 latent frames."""

    patch: int = Field(4, ge=1)
    """Space-to-depth factor before the first level."""
    stages: tuple[VAEStage, ...] = (VAEStage(width=32, down="both"), VAEStage(width=96, down="time"))
    """Levels of the encoder; the decoder mirrors them."""
    blocks: int = Field(1, ge=1)
    """Residual blocks per level."""
    latent_channels: int = Field(8, ge=1)
    convolution: Literal["factorised", "full"] = "factorised"
    """3x3 in space, then 3 taps in time; or full causal 3x3x3, which also brings a middle with attention inside each
    frame, one more block per level of the decoder, and a decoder that halves its width where it doubles space."""

    @property
    def spatial_stride(self) -> int:
        return self.patch * 2 ** sum(stage.halves_space for stage in self.stages)

    @property
    def temporal_stride(self) -> int:
        return 2 ** sum(stage.halves_time for stage in self.stages)

    @property
    def widths_after(self) -> tuple[int, ...]:
        """Channels that each level hands to the next; the last keeps its own."""
        return (*(stage.width for stage in self.stages[1:]), self.stages[-1].width)

    @model_validator(mode="after")
    def _stride(self) -> Self:
        if self.temporal_stride != 4:
            raise ValueError(f"the stages halve time to a stride of {self.temporal_stride}, but it must be 4")
        return self


class VAETrainSpec(Spec):
    """How the VAE is trained."""

    steps: int = Field(1400, ge=1)
    batch_clips: int = Field(8, ge=1)
    crop: int = Field(32, ge=8)
    """Side of the square training crop, in pixels."""
    crop_frames: int = Field(9, ge=1)
    """Frames of the training crop; 1 + 4k."""
    kl_weight: float = Field(1e-3, ge=0)
    foreground_weight: float = Field(4.0, ge=0)
    """Extra L1 weight where a pixel differs from its clip's median colour; 0 is plain L1."""
    lpips_weight: float = Field(0.0, ge=0)
    """Of the perceptual distance by VGG16, against 1 of the L1 loss; 0 leaves it out."""
    gan_weight: float = Field(0.0, ge=0)
    """Of the loss against a discriminator of clips; 0 leaves it out."""
    gan_from: float = Field(0.7, ge=0, lt=1)
    """Share of the steps after which that begins."""
    muon_lr: float = Field(2e-2, gt=0)
    adamw_lr: float = Field(3e-3, gt=0)
    seed: int = Field(0, ge=0)

    @model_validator(mode="after")
    def _seen(self) -> Self:
        if self.lpips_weight and self.crop < 16:
            raise ValueError(f"crop is {self.crop}, but the perceptual loss needs 16: raise it, or drop lpips_weight")
        return self


class TextSpec(Spec):
    """The frozen text encoder."""

    encoder: str = Field("minilm", min_length=1)
    """`minilm`; or, with the extra `hf`, a folder of a Hugging Face text encoder (a path that begins with "/" or "."),
    or `name` or `name@revision` of one on the hub."""
    width: int = Field(384, ge=1)
    """Of the encoder's token states."""
    max_tokens: int = Field(32, ge=4, le=256)
    """Longer captions are cut."""

    @model_validator(mode="after")
    def _minilm(self) -> Self:
        if self.encoder == "minilm" and self.width != 384:
            raise ValueError(f"width is {self.width}, but the states of minilm have 384")
        return self


class DiTSpec(Spec):
    """A text-conditional video diffusion transformer over spacetime patches."""

    width: int = Field(64, ge=16)
    depth: int = Field(3, ge=1)
    head_dim: int = Field(32, ge=8)
    mlp_ratio: float = Field(4.0, gt=0)
    patch: int = Field(2, ge=1)
    """Spatial patch of the latent; time is not patched: (1, patch, patch)."""
    prediction: Prediction = "velocity"
    """What the network's output means. The loss is on velocity in both cases."""
    modulation: Literal["shared", "per_block"] = "shared"
    """Whether one matrix makes the modulation of all blocks, or each block has its own, as in the DiT paper."""
    shift_tokens: int = Field(256, ge=1)
    """Tokens of a clip whose flow times are not shifted; longer clips take more noise. See
    `scaling.diffusion.flow.shift`."""

    @property
    def heads(self) -> int:
        return self.width // self.head_dim

    @model_validator(mode="after")
    def _divides(self) -> Self:
        if self.width % self.head_dim:
            raise ValueError(f"width is {self.width}, which head_dim {self.head_dim} does not divide")
        if self.head_dim % 2:
            raise ValueError(f"head_dim is {self.head_dim}, but rotary embedding needs an even one")
        return self


class OptimSpec(Spec):
    """How a DiT is trained: Muon on the matrices of the blocks, AdamW on everything else; or AdamW alone."""

    optimizer: Literal["muon", "adamw"] = "muon"
    """Of the blocks' matrices."""
    muon_lr: float = Field(2e-2, gt=0)
    adamw_lr: float = Field(5e-3, gt=0)
    base_width: int | None = Field(64, ge=1)
    """Width at which `adamw_lr` holds for every layer: docs/models.md says how other widths follow. None uses the rate
    at every width."""
    weight_decay: float = Field(0.0, ge=0)
    warmup_fraction: float = Field(0.05, ge=0, lt=1)
    """Fraction of the steps in which the rate rises linearly."""
    warmup_steps: int | None = Field(None, ge=0)
    """Updates of that rise, in place of the fraction: what runs of different lengths need to share their beginning."""
    decay_fraction: float = Field(0.95, gt=0, le=1)
    """Last fraction of the steps, in which the rate falls linearly to zero."""
    max_grad_norm: float = Field(1.0, gt=0)
    """Largest gradient norm."""
    batch_tokens: int = Field(2048, ge=1)
    """Tokens in a batch, at most: clips of any sizes fill it."""
    caption_dropout: float = Field(0.1, ge=0, lt=1)
    """Chance that a clip is trained without its caption, for classifier-free guidance."""
    conditioning_frames: float = Field(0.0, ge=0, lt=1)
    """Chance that some first or last frames of a clip are given clean, for animating stills and extending videos."""
    ema_widths: tuple[float, ...] = (0.10,)
    """Relative widths of the power-function averages of the weights (EDM2, arXiv 2312.02696, section 3.1). The first
    is the one that is measured and sampled; the others are kept beside it."""

    @model_validator(mode="after")
    def _averages(self) -> Self:
        if not self.ema_widths or not all(0 < width < 0.29 for width in self.ema_widths):
            raise ValueError(f"ema_widths is {list(self.ema_widths)}, but needs one or more widths between 0 and 0.29")
        return self


class EngineSpec(Spec):
    """How the machine does the work of a stage. Not semantic: no result depends on it, except in the last bits."""

    threads: int = Field(1, ge=1)
    """CPU threads of a process. The order of floating-point sums depends on it."""
    processes: int = Field(1, ge=1)
    """Ranks on this machine: one for each GPU, or CPU processes."""
    sharding: Literal["replicate", "shard"] = "replicate"
    """What ranks do with the weights: each keeps all of them (DDP), or each its part (FSDP2)."""
    micro_tokens: int | None = Field(None, ge=1)
    """Most tokens in one forward of a rank; a larger share of the batch is accumulated. None: all at once."""
    micro_batch_halvings: int = Field(0, ge=0)
    """Times that a micro-batch was halved because memory ran out. Not the user's to give: attempts find it."""
    compile: bool = False
    """Whether every block goes through torch.compile."""
    checkpoint_activations: bool = False
    """Whether blocks recompute their activations in the backward pass instead of keeping them."""
    workers: int = Field(0, ge=0)
    """Processes of a rank that prepare batches; 0 prepares them between updates."""

    @property
    def cores(self) -> int:
        """CPU threads of all ranks."""
        return self.threads * self.processes


class EvalSpec(Spec):
    """What is measured of every run."""

    val_clips: int = Field(256, ge=1)
    """Held-out clips in the validation loss, or all there are."""
    val_times: int = Field(8, ge=1)
    """Stratified flow times (i + 0.5) / n."""
    prompts: tuple[str, ...] = ()
    """Prompts of the sample grid; empty takes the first held-out captions."""
    prompt_count: int = Field(4, ge=1)
    """How many held-out captions serve when `prompts` is empty."""
    seed: int = Field(0, ge=0)
    """Sample i of the grid starts from the noise of seed + i."""
    solver: Solver = "euler"
    sample_steps: int = Field(20, ge=1)
    guidance: float = Field(2.0, ge=1)
    guidance_interval: tuple[float, float] = (0.0, 1.0)
    """Flow times between which guidance acts; outside, the caption alone speaks (arXiv 2404.07724)."""
    sample_at: tuple[float, ...] = (0.1, 0.3, 1.0)
    """Fractions of training at which the grid is sampled; the last is 1."""

    @model_validator(mode="after")
    def _ends_at_one(self) -> Self:
        if not self.sample_at or self.sample_at[-1] != 1.0 or list(self.sample_at) != sorted(set(self.sample_at)):
            raise ValueError("sample_at must rise and end at 1.0")
        if self.sample_at[0] <= 0:
            raise ValueError("sample_at must be above 0")
        if not 0 <= self.guidance_interval[0] < self.guidance_interval[1] <= 1:
            raise ValueError(f"guidance_interval is {list(self.guidance_interval)}, but must rise within 0 and 1")
        return self


class FVDSpec(Spec):
    """The Fréchet video distance."""

    clips: int = Field(48, ge=4)
    """Clips on each side; the same everywhere."""
    frames: int = Field(16, ge=9)
    """Frames of each clip that are compared; the network needs nine."""


S = TypeVar("S", bound=Spec)


def parse_spec(kind: type[S], mapping: Any, where: str) -> S:
    """Builds a spec from what a YAML or JSON file held; `where` names that file in errors.

    Raises UserError with one line that names the file, the field, and the nearest known field if it is unknown.
    """
    if not isinstance(mapping, Mapping):
        raise UserError(f"{where}: expected a mapping of fields, found {type(mapping).__name__}")
    try:
        return kind.model_validate(dict(mapping))
    except ValidationError as error:
        raise UserError(f"{where}: {_first_problem(kind, error)}") from None


def load_yaml(path: Path) -> Any:
    """Reads a YAML file. Raises UserError where it is missing or is not YAML."""
    try:
        return yaml.safe_load(path.read_text())
    except FileNotFoundError:
        raise UserError(f"{path}: no such file") from None
    except IsADirectoryError:
        raise UserError(f"{path}: is a folder, expected a YAML file") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: not valid YAML: {' '.join(str(error).split())}") from None


def _first_problem(kind: type[Spec], error: ValidationError) -> str:
    # A misspelt field is also a missing one: say the misspelling.
    problem = min(error.errors(), key=lambda one: one["type"] != "extra_forbidden")
    field = ".".join(str(part) for part in problem["loc"])
    if problem["type"] == "extra_forbidden":
        known = list(_model_at(kind, problem["loc"][:-1]).model_fields)
        near = get_close_matches(str(problem["loc"][-1]), known, n=1)
        hint = f"did you mean '{near[0]}'?" if near else f"known fields: {', '.join(known)}"
        return f"{field}: unknown field; {hint}"
    message = problem["msg"].removeprefix("Value error, ")
    found = "" if problem["type"] in ("missing", "value_error") else f" (found {problem['input']!r})"
    return f"{field}: {message}{found}" if field else f"{message}{found}"


def _model_at(kind: type[Spec], path: tuple[str | int, ...]) -> type[Spec]:
    """The model class that holds a nested field, so that its own field names can be suggested."""
    for part in path:
        if isinstance(part, int) or part not in kind.model_fields:
            continue
        kind = next((c for c in _classes(kind.model_fields[part].annotation)), kind)
    return kind


def _classes(annotation: Any) -> list[type[Spec]]:
    if isinstance(annotation, type) and issubclass(annotation, Spec):
        return [annotation]
    return [found for part in getattr(annotation, "__args__", ()) for found in _classes(part)]
