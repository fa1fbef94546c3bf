"""From a sweep to its stages, in the order in which they can run, with what each will cost. Imports no torch."""

import math
from dataclasses import dataclass
from pathlib import Path

from scaling import flops
from scaling.data.index import folder_manifest
from scaling.geometry import Grid, latent_size, token_grid
from scaling.specs import DiTSpec
from scaling.stage import (
    DataFields,
    DiTFields,
    LatentsFields,
    MetricsFields,
    ReferenceFields,
    Stage,
    StageFolder,
    VAEFields,
    make_stage,
)
from sweeps.spec import SweepSpec


@dataclass(frozen=True)
class Common:
    """The stages that every run of a sweep shares."""

    data: Stage
    vae: Stage
    latents: Stage
    reference: Stage

    def stages(self) -> list[Stage]:
        return [self.data, self.vae, self.latents, self.reference]


def common_stages(sweep: SweepSpec) -> Common:
    """Data, VAE, latents, the metrics' reference. Hashes a user's folder; raises UserError where it is not usable."""
    placed = {"sweep": sweep.name, "threads": sweep.hardware.threads}
    alone = {"sweep": sweep.name, "threads": sweep.hardware.target_threads}
    data = _data_stage(sweep)
    fields = VAEFields(vae=sweep.vae, train=sweep.vae_train)
    vae = make_stage("vae", "vae", fields, {"data": data.id}, **alone)
    latents = make_stage(
        "latents",
        "latents",
        LatentsFields(text=sweep.text),
        {"data": data.id, "vae": vae.id},
        **alone,
    )
    against = ReferenceFields(fvd=sweep.fvd)
    return Common(data, vae, latents, make_stage("reference", "reference", against, {"data": data.id}, **placed))


def _data_stage(sweep: SweepSpec) -> Stage:
    """A user's videos are known by their manifest: the same ones elsewhere are the same data."""
    spec, placed = sweep.data, {"sweep": sweep.name, "threads": sweep.hardware.threads}
    if spec.folder is None:
        return make_stage("data", "data", DataFields(data=spec), {}, **placed)
    captions = Path(spec.captions) if spec.captions else None
    manifest = folder_manifest(Path(spec.folder), captions, spec.images)
    fields = DataFields(data=spec.model_copy(update={"folder": ".", "captions": None}), manifest=manifest)
    return make_stage("data", "data", fields, {}, folder=spec.folder, captions=spec.captions or "", **placed)


def run_stage(sweep: SweepSpec, common: Common, multiple: int, size: str) -> Stage:
    """The `dit` stage of one model at one budget."""
    fields = DiTFields(
        dit=sweep.size(size),
        optim=sweep.optim,
        evaluation=sweep.evaluation,
        flop_budget=sweep.base_flops * multiple,
        seed=sweep.seed,
    )
    return make_stage(
        "dit",
        f"dit-{size}",
        fields,
        {"vae": common.vae.id, "latents": common.latents.id},
        sweep=sweep.name,
        compute=sweep.label(multiple),
        threads=sweep.hardware.target_threads if multiple == sweep.target else sweep.hardware.threads,
    )


def metrics_stage(sweep: SweepSpec, common: Common, run: Stage) -> Stage:
    """The `metrics` stage of a run."""
    parents = {"dit": run.id, "vae": common.vae.id, "latents": common.latents.id, "reference": common.reference.id}
    return make_stage(
        "metrics",
        "metrics",
        MetricsFields(evaluation=sweep.evaluation),
        parents,
        sweep=sweep.name,
        compute=run.compute,
        threads=sweep.hardware.threads,
    )


def ladder_stages(sweep: SweepSpec, common: Common) -> list[Stage]:
    """The runs that the law is fitted to, dearest first: a long run that starts last would run alone."""
    return [
        run_stage(sweep, common, multiple, size)
        for multiple in sorted(sweep.ladder, reverse=True)
        for size in reversed(sweep.ladder[multiple])
    ]


@dataclass(frozen=True)
class PlannedRun:
    """One line of a plan. N, D and C are the law's: parameters without embeddings, tokens, training FLOPs."""

    run_id: str
    compute: str
    size: str
    n_params: int
    num_tokens: float
    train_flops: float
    steps: int
    hours: float
    gpu_hours: float
    price: float
    done: bool


@dataclass(frozen=True)
class Plan:
    """What a sweep will train and what it will cost."""

    sweep: str
    runs: list[PlannedRun]
    vae_flops: float
    """Of training the VAE; encoding and metrics are not planned."""
    hours: float
    """Wall time of training, the VAE's too where it is not done, with `jobs` runs at a time."""
    gpu_hours: float
    price: float
    disk_bytes: float
    """Checkpoints, averaged weights and cached latents."""


def plan(sweep: SweepSpec, runs: Path | None = None, clip: tuple[int, int, int] | None = None) -> Plan:
    """Prices a sweep. `runs` is where finished runs are looked for; `clip` (frames, height, width) stands for the clips
    of a user's folder, which are not opened: by default the largest that the data spec allows, square.

    At the target the size is the law's to choose, later: the plan takes the middle one of `target_sizes`.
    """
    common = common_stages(sweep)
    grid = _grid(sweep, clip or _typical_clip(sweep))
    names = [(multiple, size) for multiple in sorted(sweep.ladder) for size in sweep.ladder[multiple]]
    names.append((sweep.target, sweep.target_sizes[len(sweep.target_sizes) // 2]))
    lines = [_line(sweep, common, multiple, size, grid, runs) for multiple, size in names]
    open_lines = [line for line in lines if not line.done]
    ladder_hours = sum(line.hours for line in open_lines if line.compute != sweep.label(sweep.target))
    target_hours = sum(line.hours for line in open_lines) - ladder_hours
    vae = sweep.vae_train
    vae_flops = vae.steps * vae.batch_clips * flops.vae_training(sweep.vae, vae.crop_frames, vae.crop, vae.crop)
    vae_hours = 0.0 if _done(runs, common.vae) else vae_flops / sweep.hardware.flops_per_second / 3600
    hours = sum(line.hours for line in open_lines) + vae_hours
    return Plan(
        sweep=sweep.name,
        runs=lines,
        vae_flops=vae_flops,
        hours=ladder_hours / sweep.hardware.jobs + target_hours + vae_hours,
        gpu_hours=hours * sweep.hardware.gpus,
        price=sweep.hardware.price(hours),
        disk_bytes=_disk(sweep, lines, grid),
    )


def _line(sweep: SweepSpec, common: Common, multiple: int, size: str, grid: Grid, runs: Path | None) -> PlannedRun:
    stage, dit, channels = run_stage(sweep, common, multiple, size), sweep.size(size), sweep.vae.latent_channels
    batch = sweep.optim.batch_clips
    per_step = flops.dit_training(dit, channels, [grid] * batch, sweep.text.max_tokens)
    steps = max(1, round(sweep.base_flops * multiple / per_step))
    hours = steps * per_step / sweep.hardware.flops_per_second / 3600
    return PlannedRun(
        run_id=stage.id,
        compute=stage.compute,
        size=size,
        n_params=flops.non_embedding(flops.dit_params(dit, channels)),
        num_tokens=float(steps * batch * math.prod(grid)),
        train_flops=steps * per_step,
        steps=steps,
        hours=hours,
        gpu_hours=hours * sweep.hardware.gpus,
        price=sweep.hardware.price(hours),
        done=_done(runs, stage),
    )


def _done(runs: Path | None, stage: Stage) -> bool:
    return runs is not None and StageFolder(runs / stage.id).complete


def _typical_clip(sweep: SweepSpec) -> tuple[int, int, int]:
    worlds, multiple = sweep.data.worlds, sweep.data.multiple
    if worlds is not None and worlds.width * worlds.height <= sweep.data.pixels:
        return sweep.data.frames, worlds.height, worlds.width
    side = math.isqrt(sweep.data.pixels) // multiple * multiple
    return sweep.data.frames, side, side


def _grid(sweep: SweepSpec, clip: tuple[int, int, int]) -> Grid:
    return token_grid(latent_size(*clip, sweep.vae), DiTSpec().patch)


def _disk(sweep: SweepSpec, lines: list[PlannedRun], grid: Grid) -> float:
    weights = sum(sum(flops.dit_params(sweep.size(line.size), sweep.vae.latent_channels).values()) for line in lines)
    # Two checkpoints of weights, average and two moments, and the final average, four bytes each.
    return 4.0 * weights * (2 * 4 + 1) + _latent_bytes(sweep, grid)


def _latent_bytes(sweep: SweepSpec, grid: Grid) -> float:
    """Of the worlds' clips; what a user's folder holds is not known before it is opened."""
    worlds = sweep.data.worlds
    clips = worlds.count * (worlds.frames // sweep.data.frames) if worlds else 0
    values_per_token = DiTSpec().patch ** 2 * sweep.vae.latent_channels
    return 4.0 * clips * math.prod(grid) * values_per_token
