"""From a sweep to its stages, in the order in which they can run, with what each will cost. Imports no torch."""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from scaling import flops
from scaling.batching import TokenBatches
from scaling.data.clips import world_clips
from scaling.data.index import folder_manifest
from scaling.errors import UserError
from scaling.geometry import Grid, latent_size, token_grid
from scaling.specs import DiTSpec
from scaling.stage import (
    DataFields,
    DiTFields,
    LatentsFields,
    MetricsFields,
    ReconstructionFields,
    ReferenceFields,
    Stage,
    StageFolder,
    TrainingFields,
    VAEFields,
    make_stage,
)
from scaling.text.source import encoder_manifest, is_folder, pin
from sweeps.spec import SweepSpec

SAMPLED_UPDATES = 64
"""Updates whose mean stands for all of a run, where clips have several sizes."""


@dataclass(frozen=True)
class Common:
    """The stages that every run of a sweep shares."""

    data: Stage
    vae: Stage
    latents: Stage
    reference: Stage
    reconstruction: Stage
    """Measures the VAE. No run waits for it."""

    def stages(self) -> list[Stage]:
        """Those that runs and their metrics need."""
        return [self.data, self.vae, self.latents, self.reference]


def common_stages(sweep: SweepSpec) -> Common:
    """Data, VAE, latents, the metrics' reference, the VAE's metrics. Hashes a user's folder; raises UserError where it
    is not usable."""
    placed = {"sweep": sweep.name, "engine": sweep.hardware.threads_of(alone=False)}
    alone = {"sweep": sweep.name, "engine": sweep.hardware.threads_of(alone=True)}
    data = _data_stage(sweep)
    fields = VAEFields(vae=sweep.vae, train=sweep.vae_train)
    trained = {"sweep": sweep.name, "engine": sweep.hardware.training_vae()}
    vae = make_stage("vae", "vae", fields, {"data": data.id}, **trained)
    latents = _latents_stage(sweep, {"data": data.id, "vae": vae.id}, alone)
    against = ReferenceFields(fvd=sweep.fvd)
    reference = make_stage("reference", "reference", against, {"data": data.id}, **placed)
    compared, measures = {"vae": vae.id, "reference": reference.id}, ReconstructionFields(seed=sweep.evaluation.seed)
    reconstruction = make_stage("reconstruction", "reconstruction", measures, compared, **placed)
    return Common(data, vae, latents, reference, reconstruction)


def _data_stage(sweep: SweepSpec) -> Stage:
    """A user's videos are known by their manifest: the same ones elsewhere are the same data."""
    spec, placed = sweep.data, {"sweep": sweep.name, "engine": sweep.hardware.threads_of(alone=False)}
    if spec.folder is None:
        return make_stage("data", "data", DataFields(data=spec), {}, **placed)
    captions = Path(spec.captions) if spec.captions else None
    manifest = folder_manifest(Path(spec.folder), captions, spec.images)
    fields = DataFields(data=spec.model_copy(update={"folder": ".", "captions": None}), manifest=manifest)
    return make_stage("data", "data", fields, {}, folder=spec.folder, captions=spec.captions or "", **placed)


def _latents_stage(sweep: SweepSpec, parents: dict[str, str], placed: dict[str, Any]) -> Stage:
    """A user's text encoder is known by its manifest, one on the hub by its commit."""
    text, folder = sweep.text, ""
    fields = LatentsFields(text=text)
    if is_folder(text.encoder):
        folder = text.encoder
        manifest = encoder_manifest(Path(folder), text)
        fields = LatentsFields(text=text.model_copy(update={"encoder": "."}), manifest=manifest)
    elif text.encoder != "minilm":
        fields = LatentsFields(text=pin(text))
    return make_stage("latents", "latents", fields, parents, folder=folder, **placed)


def run_stage(sweep: SweepSpec, common: Common, multiple: int, size: str) -> Stage:
    """The `dit` stage of one model at one budget. Of a branching sweep, the runs of the ladder go on from a trunk, and
    are sampled at the moments that come after it."""
    evaluation, parents = sweep.evaluation, {"vae": common.vae.id, "latents": common.latents.id}
    if trunk := trunk_stage(sweep, common, multiple, size):
        parents["trunk"] = trunk.id
        after = tuple(share for share in evaluation.sample_at if share > 1 - sweep.optim.decay)
        evaluation = evaluation.model_copy(update={"sample_at": after})
    fields = DiTFields(**_training(sweep, multiple, size), evaluation=evaluation)
    return make_stage("dit", f"dit-{size}", fields, parents, **_placed(sweep, multiple))


def trunk_stage(sweep: SweepSpec, common: Common, multiple: int, size: str) -> Stage | None:
    """The `trunk` stage that this run goes on from, which goes on from that of the next smaller budget of its size;
    None where the sweep does not branch, and for the target, whose size is not known before the ladder is trained."""
    budgets = [one for one in sorted(sweep.ladder) if size in sweep.ladder[one] and one <= multiple]
    if not sweep.branches or multiple not in budgets:
        return None
    parents, stage = {"vae": common.vae.id, "latents": common.latents.id}, None
    for budget in budgets:
        fields = TrainingFields(**_training(sweep, budget, size))
        stage = make_stage("trunk", f"trunk-{size}", fields, parents, **_placed(sweep, budget))
        parents = {**parents, "trunk": stage.id}
    return stage


def _training(sweep: SweepSpec, multiple: int, size: str) -> dict[str, Any]:
    return {
        "dit": sweep.size(size),
        "optim": sweep.optim,
        "flop_budget": sweep.base_flops * multiple,
        "seed": sweep.seed,
    }


def _placed(sweep: SweepSpec, multiple: int) -> dict[str, Any]:
    return {
        "sweep": sweep.name,
        "compute": sweep.label(multiple),
        "engine": sweep.hardware.training(alone=multiple == sweep.target),
    }


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
        engine=sweep.hardware.threads_of(alone=False),
    )


def ladder_stages(sweep: SweepSpec, common: Common) -> list[Stage]:
    """The runs that the law is fitted to, dearest first: a long run that starts last would run alone."""
    return [run_stage(sweep, common, multiple, size) for multiple, size in _dearest_first(sweep)]


def trunk_stages(sweep: SweepSpec, common: Common) -> list[Stage]:
    """What those runs go on from."""
    trunks = [trunk_stage(sweep, common, multiple, size) for multiple, size in _dearest_first(sweep)]
    return [trunk for trunk in trunks if trunk]


def _dearest_first(sweep: SweepSpec) -> list[tuple[int, str]]:
    multiples = sorted(sweep.ladder, reverse=True)
    return [(multiple, size) for multiple in multiples for size in reversed(sweep.ladder[multiple])]


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
    """Of training the VAE, without its perceptual loss and discriminator; encoding and metrics are not planned."""
    hours: float
    """Wall time of training, the VAE's too where it is not done, with `jobs` runs at a time."""
    gpu_hours: float
    price: float
    disk_bytes: float
    """Checkpoints, averaged weights and cached latents."""


def plan(sweep: SweepSpec, runs: Path | None = None, clip: tuple[int, int, int] | None = None) -> Plan:
    """Prices a sweep. `runs` is where finished runs are looked for; `clip` (frames, height, width) stands for the clips
    of a user's folder, which are not opened: by default the largest that the data spec allows, square. Worlds of
    several sizes are priced as the mixture that they are.

    At the target the size is the law's to choose, later: the plan takes the middle one of `target_sizes`.
    """
    common = common_stages(sweep)
    grids = [token_grid(latent_size(*size, sweep.vae), DiTSpec().patch) for size in _clips(sweep, clip)]
    names = [(multiple, size) for multiple in sorted(sweep.ladder) for size in sweep.ladder[multiple]]
    names.append((sweep.target, sweep.target_sizes[len(sweep.target_sizes) // 2]))
    lines = [_line(sweep, common, multiple, size, grids, runs) for multiple, size in names]
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
        disk_bytes=_disk(sweep, lines, grids),
    )


def _line(
    sweep: SweepSpec, common: Common, multiple: int, size: str, grids: list[Grid], runs: Path | None
) -> PlannedRun:
    stage, dit, channels = run_stage(sweep, common, multiple, size), sweep.size(size), sweep.vae.latent_channels
    lengths, text = [math.prod(grid) for grid in grids], sweep.text
    batches = TokenBatches(lengths, sweep.optim.batch_tokens, sweep.seed)
    updates = [batches(step) for step in range(SAMPLED_UPDATES if len(set(grids)) > 1 else 1)]
    costs = [flops.dit_training(dit, channels, [grids[c] for c in u], text.max_tokens, text.width) for u in updates]
    per_step = sum(costs) / len(updates)
    tokens = sum(lengths[clip] for update in updates for clip in update) / len(updates)
    steps = max(1, round(sweep.base_flops * multiple / per_step))
    hours = steps * per_step * _share_to_do(sweep, multiple, size) / sweep.hardware.flops_per_second / 3600
    return PlannedRun(
        run_id=stage.id,
        compute=stage.compute,
        size=size,
        n_params=flops.non_embedding(flops.dit_params(dit, channels, text.width)),
        num_tokens=steps * tokens,
        train_flops=steps * per_step,
        steps=steps,
        hours=hours,
        gpu_hours=hours * sweep.hardware.gpus,
        price=sweep.hardware.price(hours),
        done=_done(runs, stage),
    )


def _share_to_do(sweep: SweepSpec, multiple: int, size: str) -> float:
    """Of a run's FLOPs, those that no smaller budget's trunk has done."""
    smaller = [one for one in sweep.ladder if size in sweep.ladder[one] and one < multiple]
    if not (sweep.branches and multiple in sweep.ladder and smaller):
        return 1.0
    return 1 - (1 - sweep.optim.decay) * max(smaller) / multiple


def _done(runs: Path | None, stage: Stage) -> bool:
    return runs is not None and StageFolder(runs / stage.id).complete


def _clips(sweep: SweepSpec, clip: tuple[int, int, int] | None) -> list[tuple[int, int, int]]:
    """(frames, height, width) of clips that stand for all, each for as many as any other."""
    if clip is not None:
        return [clip]
    data = sweep.data
    if data.worlds is None:
        side = math.isqrt(data.pixels) // data.multiple * data.multiple
        return [(data.frames, side, side)]
    clips = world_clips(data.worlds, data)
    if not clips:
        raise UserError(f"{sweep.name}: no world has frames enough for a clip; raise data.worlds.frames or data.fps")
    return clips


def _disk(sweep: SweepSpec, lines: list[PlannedRun], grids: list[Grid]) -> float:
    channels, width = sweep.vae.latent_channels, sweep.text.width
    weights = sum(sum(flops.dit_params(sweep.size(line.size), channels, width).values()) for line in lines)
    # Two checkpoints of weights, average and two moments, and the final average, four bytes each.
    return 4.0 * weights * (2 * 4 + 1) + _latent_bytes(sweep, grids)


def _latent_bytes(sweep: SweepSpec, grids: list[Grid]) -> float:
    """Of the worlds' clips; what a user's folder holds is not known before it is opened."""
    worlds = sweep.data.worlds
    tokens = sum(map(math.prod, grids)) * worlds.count / len(worlds.sizes) if worlds else 0.0
    return 4.0 * tokens * DiTSpec().patch ** 2 * sweep.vae.latent_channels
