"""A sweep: which models at which budgets, and the budget that the law has to foretell. Read from YAML."""

from importlib.resources import files
from pathlib import Path
from typing import Any, Self

from pydantic import Field, model_validator

from scaling.errors import UserError
from scaling.presets import DIT_LADDER, VAE_PRESETS
from scaling.specs import (
    DataSpec,
    DiTSpec,
    EvalSpec,
    FVDSpec,
    OptimSpec,
    Prediction,
    Spec,
    TextSpec,
    VAESpec,
    VAETrainSpec,
    load_yaml,
    parse_spec,
)

FEWEST_RUNS = 6
"""Runs below the target that `analysis.forecast` needs."""


class HardwareSpec(Spec):
    """What a plan assumes of the machine. Not semantic: no result depends on it, except `threads` in the last bits."""

    flops_per_second: float = Field(1e11, gt=0)
    """Training speed of one job, all its devices together, as measured or hoped for."""
    jobs: int = Field(2, ge=1)
    """Jobs at a time."""
    gpus: int = Field(0, ge=0)
    """GPUs of one job; 0 trains on the CPU."""
    price_per_hour: float = Field(0.0, ge=0)
    """Of one GPU, or of the whole machine where there is none, in US dollars."""
    threads: int = Field(1, ge=1)
    """CPU threads of a small job."""
    target_threads: int = Field(2, ge=1)
    """CPU threads of a job that has the machine to itself: the VAE, the latents, the target run."""

    def price(self, hours: float) -> float:
        """US dollars for so many hours of one job."""
        return hours * max(1, self.gpus) * self.price_per_hour


class SweepSpec(Spec):
    """Several model sizes at several budgets, and one larger budget whose loss is foretold before it is spent."""

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9_.-]*$")
    data: DataSpec
    vae: VAESpec
    vae_train: VAETrainSpec = VAETrainSpec()
    text: TextSpec = TextSpec()
    optim: OptimSpec = OptimSpec()
    evaluation: EvalSpec = EvalSpec()
    fvd: FVDSpec = FVDSpec()
    prediction: Prediction = "velocity"
    """What every model of the sweep predicts."""
    base_flops: float = Field(gt=0)
    """Training FLOPs of the base budget."""
    ladder: dict[int, tuple[str, ...]]
    """Multiple of the base budget -> model sizes trained at it. Holds 1 and 4."""
    target: int = Field(32, ge=2)
    """Multiple that the law foretells."""
    target_sizes: tuple[str, ...]
    """Sizes the law may choose from at the target."""
    seed: int = Field(0, ge=0)
    hardware: HardwareSpec = HardwareSpec()

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if min(self.ladder, default=0) < 1 or not {1, 4} <= self.ladder.keys():
            raise ValueError("ladder: multiples are at least 1, and 1 and 4 are needed for the columns base and 4x")
        for where, names in [
            *((f"ladder.{k}", v) for k, v in self.ladder.items()),
            ("target_sizes", self.target_sizes),
        ]:
            for name in names:
                if name not in DIT_LADDER:
                    raise ValueError(f"{where}: unknown preset '{name}'; known: {', '.join(DIT_LADDER)}")
            if not names or len(set(names)) < len(names):
                raise ValueError(f"{where}: names {'a size twice' if names else 'no size'}")
        runs = sum(len(names) for names in self.ladder.values())
        if runs < FEWEST_RUNS or len({name for names in self.ladder.values() for name in names}) < 2:
            raise ValueError(f"ladder: {runs} runs, but a forecast needs {FEWEST_RUNS}, of two sizes at least")
        if self.fvd.frames > self.data.frames:
            raise ValueError(f"fvd.frames is {self.fvd.frames}, but clips have at most data.frames {self.data.frames}")
        if max(self.ladder) >= self.target:
            raise ValueError(f"target is {self.target}, but the ladder already trains at {max(self.ladder)}")
        needed = self.vae.spatial_stride * DiTSpec().patch
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

    def size(self, name: str) -> DiTSpec:
        """A model of the ladder as this sweep trains it."""
        return DIT_LADDER[name].model_copy(update={"prediction": self.prediction})

    def label(self, multiple: int) -> str:
        """`base`, `4x`, `32x`, ..."""
        return "base" if multiple == 1 else f"{multiple}x"


def load_sweep(name_or_path: str) -> SweepSpec:
    """A sweep from a YAML file, or a shipped one by its name. Paths in it are relative to the file.

    Raises UserError naming the file and the field.
    """
    path = Path(name_or_path)
    shipped = {Path(entry.name).stem: entry for entry in files("sweeps").iterdir() if entry.name.endswith(".yaml")}
    if name_or_path in shipped:  # even where a folder has that name, such as the demo's output
        path = Path(str(shipped[name_or_path]))
    elif not path.suffix and not path.is_file():
        raise UserError(f"{name_or_path}: no such sweep; shipped ones: {', '.join(sorted(shipped))}")
    document = load_yaml(path)
    if not isinstance(document, dict):
        raise UserError(f"{path}: expected a mapping of fields")
    document = dict(document)
    if isinstance(document.get("vae"), str):
        document["vae"] = _vae_preset(path, document["vae"])
    data = document.get("data")
    if isinstance(data, dict):
        document["data"] = {
            key: str((path.parent / value).resolve())
            if key in ("folder", "captions") and isinstance(value, str)
            else value
            for key, value in data.items()
        }
    return parse_spec(SweepSpec, document, str(path))


def _vae_preset(path: Path, name: str) -> Any:
    if name not in VAE_PRESETS:
        raise UserError(f"{path}: vae: unknown preset '{name}'; known: {', '.join(VAE_PRESETS)}")
    return VAE_PRESETS[name].model_dump()
