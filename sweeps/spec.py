"""A sweep: which models at which budgets, and the budget that the law has to foretell. Read from YAML."""

import math
from collections.abc import Mapping
from importlib.resources import files
from pathlib import Path
from typing import Any, Self

from pydantic import Field, model_validator

from scaling.accounting.presets import VAE_PRESETS, dit_preset
from scaling.core.errors import UserError
from scaling.core.fields import set_field
from scaling.core.specs import (
    DataSpec,
    DiTSpec,
    EngineSpec,
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
from scaling.text.source import is_folder

FEWEST_RUNS = 6
"""Runs below the target that `analysis.forecast.forecast` needs."""


class HardwareSpec(Spec):
    """What a plan assumes of the machine. Not semantic: no result depends on it, except in the last bits."""

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
    engine: EngineSpec = EngineSpec()
    """How training uses its job's machine, but for the threads, which are given above."""

    @model_validator(mode="after")
    def _one_rank_for_each_gpu(self) -> Self:
        if self.engine.threads != 1:
            raise ValueError("engine.threads: give 'threads' and 'target_threads' instead")
        if self.gpus and self.engine.processes != self.gpus:
            raise ValueError(f"engine.processes is {self.engine.processes}: make it {self.gpus}, one for each GPU")
        return self

    def threads_of(self, *, alone: bool) -> EngineSpec:
        """The engine of a stage that does not train a DiT, one process."""
        return EngineSpec(threads=self.target_threads if alone else self.threads)

    def training(self, *, alone: bool) -> EngineSpec:
        """The engine of a stage that trains a DiT."""
        return self.engine.model_copy(update={"threads": self.target_threads if alone else self.threads})

    def training_vae(self) -> EngineSpec:
        """The engine of the stage that trains the VAE, which has the machine to itself: like a DiT's, but its weights
        are never divided, and its micro-batches are crops of one size."""
        return self.training(alone=True).model_copy(update={"sharding": "replicate", "micro_tokens": None})

    def price(self, hours: float) -> float:
        """US dollars for so many hours of one job."""
        return hours * max(1, self.gpus) * self.price_per_hour


class TuningSpec(Spec):
    """Trials that look for learning rates, before anything is trained at them. See `sweeps.tuning`."""

    size: str
    """Of the trials' model; other widths follow from its rates as docs/models.md says."""
    multiple: int = Field(1, ge=1)
    """Of the base budget, for one trial."""
    trials: int = Field(8, ge=2)
    at_a_time: int = Field(4, ge=1)
    """Trials that run without knowing of each other's losses."""
    muon_lr: tuple[float, float] | None = None
    """Lowest and highest rate to try, on a logarithmic scale; without it, that of `optim` is kept."""
    adamw_lr: tuple[float, float] | None = None
    """Likewise."""
    seed: int = Field(0, ge=0)
    """Of the choice of trials."""

    @property
    def ranges(self) -> dict[str, tuple[float, float]]:
        """Field of `optim` -> lowest and highest value."""
        given = {"muon_lr": self.muon_lr, "adamw_lr": self.adamw_lr}
        return {name: ends for name, ends in given.items() if ends is not None}

    @model_validator(mode="after")
    def _something_to_find(self) -> Self:
        if not self.ranges:
            raise ValueError("no rate to tune: give muon_lr or adamw_lr, such as adamw_lr: [0.001, 0.03]")
        for name, (low, high) in self.ranges.items():
            if not 0 < low < high < math.inf:
                raise ValueError(f"{name} is [{low:g}, {high:g}], but must rise from a positive rate")
        return self


class SweepSpec(Spec):
    """Several model sizes at several budgets, and one larger budget whose loss is foretold before it is spent."""

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9_.-]*$")
    data: DataSpec
    vae: VAESpec
    vae_train: VAETrainSpec = VAETrainSpec()
    text: TextSpec = TextSpec()
    optim: OptimSpec = OptimSpec()
    tuning: TuningSpec | None = None
    """Without it, every model is trained at the rates of `optim`."""
    evaluation: EvalSpec = EvalSpec()
    fvd: FVDSpec = FVDSpec()
    prediction: Prediction = "velocity"
    """What every model of the sweep predicts."""
    shift_tokens: int = Field(256, ge=1)
    """Tokens of a clip whose flow times are not shifted; see `scaling.diffusion.flow.shift`."""
    base_flops: float = Field(gt=0)
    """Training FLOPs of the base budget."""
    branches: bool = False
    """Whether the runs of one size share their beginning: one long run at a constant rate, which branches into a decay
    at every budget. Needs `optim.warmup_steps`, and a short `optim.decay`."""
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
                try:
                    dit_preset(name)
                except ValueError as problem:
                    raise ValueError(f"{where}: {problem}") from None
            if not names or len(set(names)) < len(names):
                raise ValueError(f"{where}: names {'a size twice' if names else 'no size'}")
        runs = sum(len(names) for names in self.ladder.values())
        if runs < FEWEST_RUNS or len({name for names in self.ladder.values() for name in names}) < 2:
            raise ValueError(f"ladder: {runs} runs, but a forecast needs {FEWEST_RUNS}, of two sizes at least")
        if self.branches and self.optim.warmup_steps is None:
            raise ValueError("branches: runs that share a beginning warm up alike; give optim.warmup_steps")
        if self.branches and self.optim.decay > 0.5:
            raise ValueError(
                f"branches: optim.decay is {self.optim.decay:g}, which leaves little to share; at most 0.5"
            )
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

    @model_validator(mode="after")
    def _tunable(self) -> Self:
        if self.tuning is None:
            return self
        try:
            dit_preset(self.tuning.size)
        except ValueError as problem:
            raise ValueError(f"tuning.size: {problem}") from None
        if self.tuning.multiple >= self.target:
            raise ValueError(f"tuning.multiple is {self.tuning.multiple}, but trials are smaller than the target")
        if self.optim.optimiser == "adamw" and self.tuning.muon_lr is not None:
            raise ValueError(
                "tuning.muon_lr: no weight is trained by Muon where optim.optimiser is adamw; leave it out"
            )
        return self

    def size(self, name: str) -> DiTSpec:
        """A model of the ladder as this sweep trains it."""
        return dit_preset(name).model_copy(update={"prediction": self.prediction, "shift_tokens": self.shift_tokens})

    def label(self, multiple: int) -> str:
        """`base`, `4x`, `32x`, ..."""
        return "base" if multiple == 1 else f"{multiple}x"


def load_sweep(name_or_path: str, overrides: Mapping[str, Any] = {}) -> SweepSpec:
    """A sweep from a YAML file, or a shipped one by its name. Paths in it are relative to the file. `overrides` are
    values of dotted fields, such as `optim.muon_lr`, that replace those of the file; paths in them are relative to the
    working directory.

    Raises UserError naming the file, or --set, and the field.
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
    document = _resolve(document, path.parent, f"{path}: ")
    for field, value in overrides.items():
        try:
            document = _resolve(set_field(document, field, value), Path(), "--set ")
        except ValueError as problem:
            raise UserError(f"--set {field}: {problem}") from None
    try:
        return parse_spec(SweepSpec, document, str(path))
    except UserError as problem:
        text = str(problem).removeprefix(f"{path}: ")
        wrong = f"{text.partition(':')[0]}."
        if any(wrong.startswith(f"{field}.") or f"{field}.".startswith(wrong) for field in overrides):
            raise UserError(f"--set {text}") from None
        raise


def _resolve(document: dict[Any, Any], folder: Path, where: str) -> dict[Any, Any]:
    """The document with presets in place of their names and with absolute paths in place of those relative to
    `folder`."""
    document = dict(document)
    if isinstance(document.get("vae"), str):
        document["vae"] = _vae_preset(where, document["vae"])
    for section, keys in {"data": ("folder", "captions"), "text": ("encoder",)}.items():
        if isinstance(document.get(section), dict):
            document[section] = {
                key: str((folder / value).resolve()) if key in keys and _is_path(folder, key, value) else value
                for key, value in document[section].items()
            }
    return document


def _is_path(folder: Path, key: str, value: Any) -> bool:
    """Whether a field is a path. An encoder is one where it begins as one, or is a folder in `folder`; other encoders
    are names."""
    if not isinstance(value, str):
        return False
    return key != "encoder" or is_folder(value) or (value != "minilm" and (folder / value).is_dir())


def _vae_preset(where: str, name: str) -> Any:
    if name not in VAE_PRESETS:
        raise UserError(f"{where}vae: unknown preset '{name}'; known: {', '.join(VAE_PRESETS)}")
    return VAE_PRESETS[name].model_dump()
