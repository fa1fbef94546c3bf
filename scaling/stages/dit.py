"""Stage `dit`: trains one model to its FLOP budget, samples the grid on the way, and measures its validation loss.

Makes model.safetensors (averaged weights), samples/at-<fraction>/<prompt>.mp4 with samples/prompts.json,
and speed.json. A run that diverges is a result, too: diverged.json, and a record without a loss.
"""

import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
from safetensors.torch import save

from scaling.accounting import flops
from scaling.core.errors import DivergedError, UserError
from scaling.core.records import Metric, RunRecord, read_record
from scaling.core.specs import EngineSpec, OptimSpec
from scaling.core.stage import DiTFields, Events, Stage, StageFolder, TrainingFields, moment
from scaling.core.store import read_document, write_bytes, write_document
from scaling.core.streams import Stream
from scaling.data.video import write_video
from scaling.diffusion.inference import decode, load_dit, load_vae
from scaling.diffusion.latents import LatentSet
from scaling.diffusion.sampling import Sampler, sample
from scaling.distributed.devices import current_device, peak_flops
from scaling.distributed.group import process_group
from scaling.distributed.ranks import rank, ranks
from scaling.distributed.shards import gathered
from scaling.models.dit import DiT
from scaling.stages.data import load_index
from scaling.stages.run import train_together
from scaling.text.load import load_text_encoder
from scaling.training.batches import Budget, FlowBatches
from scaling.training.dit import DiTModule
from scaling.training.engine import prepare
from scaling.training.fit import Visit, fit
from scaling.training.validation import validation_loss

CHECKPOINTS = "checkpoints"
SPEED = "speed.json"
DIVERGED = "diverged.json"
SAVED = 8
"""Checkpoints in the course of a run."""


@dataclass(frozen=True)
class Training:
    """A training run before its first update."""

    stage: Stage
    data: LatentSet
    batches: FlowBatches
    budget: Budget
    module: DiTModule
    start: Path | None
    """Checkpoints of the trunk that it goes on from, if there is one."""

    @classmethod
    def of(cls, folder: StageFolder, stage: Stage) -> "Training":
        """As the fields of a `trunk` or `dit` stage say. The same seed gives the same first weights.

        Raises UserError where memory ran out with micro-batches of one clip.
        """
        fields = stage.fields_as(TrainingFields)
        data = LatentSet(folder.parent("latents").path, held_out=False, patch=fields.dit.patch)
        torch.manual_seed(fields.seed)
        model = DiT(fields.dit, data.channels, data.text_dim)
        prepare(model, model.blocks, stage.engine)
        batches = FlowBatches(
            data,
            fields.dit,
            fields.optim,
            fields.seed,
            rank=rank(),
            ranks=ranks(),
            micro_tokens=_micro_tokens(stage.engine, fields.optim, max(map(math.prod, data.grids))),
        )
        budget = batches.steps_within(fields.flop_budget)
        start = folder.parent("trunk").path / CHECKPOINTS if "trunk" in stage.parents else None
        return cls(stage, data, batches, budget, DiTModule(model, fields.optim, budget.steps), start)

    def run(
        self,
        folder: StageFolder,
        events: Events,
        visits: Mapping[int, Visit] | None = None,
        until: int | None = None,
    ) -> float | None:
        """Trains in `folder`; see `fit`."""
        every = max(1, self.budget.steps // SAVED)
        where = folder.path / CHECKPOINTS
        if rank() == 0:
            steps, peak = self.budget.steps, peak_flops()
            events.log(
                update_tokens=self.budget.num_tokens / steps,
                update_flops=self.budget.train_flops / steps,
                peak_flops=peak and peak * self.stage.engine.processes,
            )
        return fit(
            self.module,
            self.batches,
            where,
            events,
            every=every,
            visits=visits,
            until=until,
            start=self.start,
            engine=self.stage.engine,
        )


def _micro_tokens(engine: EngineSpec, optim: OptimSpec, longest: int) -> int | None:
    if engine.micro_batch_halvings == 0:
        return engine.micro_tokens
    whole = engine.micro_tokens or math.ceil(optim.batch_tokens / ranks())
    if whole / 2 ** (engine.micro_batch_halvings - 1) < longest:
        raise UserError(
            f"engine: memory runs out even for micro-batches of one clip of {longest} tokens; set "
            "checkpoint_activations, or sharding: shard, or take more or larger GPUs"
        )
    return math.ceil(whole / 2**engine.micro_batch_halvings)


def train(folder: StageFolder, stage: Stage, events: Events) -> None:
    """What every rank of a run does. Draws the sample grid on the way; the first rank leaves the averaged weights, and
    how long an update took where there was one; or, of a run that diverges, when it did."""
    try:
        _train(folder, stage, events)
    except DivergedError as error:
        if rank() == 0:
            write_document(folder.path / DIVERGED, {"done": error.done})


def _train(folder: StageFolder, stage: Stage, events: Events) -> None:
    fields = stage.fields_as(DiTFields)
    with process_group():
        training = Training.of(folder, stage)
        shares: dict[int, list[float]] = {}
        for share in fields.evaluation.sample_at:
            shares.setdefault(max(1, round(share * training.budget.steps)), []).append(share)
        draw = SampleGrid(folder, fields).draw if rank() == 0 else _nothing
        update_seconds = training.run(folder, events, {step: partial(draw, at) for step, at in shares.items()})
        weights = gathered(training.module.ema.weights)
        if rank() == 0:
            write_bytes(folder.path / "model.safetensors", save(weights))
            if update_seconds is not None:
                write_document(folder.path / SPEED, {"update_seconds": update_seconds})


def work(folder: StageFolder, stage: Stage, events: Events) -> RunRecord:
    fields = stage.fields_as(DiTFields)
    train_together(folder, stage, events)
    latents, training = folder.parent("latents"), Training.of(folder, stage)
    data, budget, module = training.data, training.budget, training.module
    diverged = folder.path / DIVERGED
    diverged_at = read_document(diverged)["done"] if diverged.exists() else None
    before = read_record(folder.parent("trunk").record_path).steps or 0 if training.start else 0
    speed = folder.path / SPEED
    update_seconds = read_document(speed)["update_seconds"] if speed.exists() else None
    flops_per_second = update_seconds and budget.train_flops / budget.steps / update_seconds
    peak = peak_flops()
    groups = module.dit.count_params()
    return RunRecord(
        run_id=stage.id,
        stage="dit",
        vae_id=stage.parents["vae"],
        data_id=latents.stage().parents["data"],
        seed=fields.seed,
        n_params=flops.non_embedding(groups),
        n_params_total=sum(groups.values()),
        num_tokens=budget.num_tokens,
        unique_clips=len(data),
        unique_tokens=sum(math.prod(grid) for grid in data.grids),
        flop_budget=fields.flop_budget,
        train_flops=budget.train_flops,
        spent_flops=budget.train_flops * ((diverged_at or budget.steps) - before) / budget.steps,
        learning_rate=fields.optim.muon_lr if fields.optim.optimizer == "muon" else fields.optim.adamw_lr,
        batch_tokens=budget.num_tokens / budget.steps,
        adamw_lr=fields.optim.adamw_lr,
        optimizer=fields.optim.optimizer,
        warmup_steps=module.warmup_steps,
        decay_steps=module.decay_steps,
        steps=budget.steps,
        shape={"width": fields.dit.width, "depth": fields.dit.depth, "prediction": fields.dit.prediction},
        metrics=_measure(folder, fields) if diverged_at is None else (),
        diverged_at=diverged_at,
        device=current_device().type,
        flops_per_second=flops_per_second,
        mfu=flops_per_second / (peak * stage.engine.processes) if flops_per_second and peak else None,
    )


def _measure(folder: StageFolder, fields: DiTFields) -> tuple[Metric, ...]:
    held_out = LatentSet(folder.parent("latents").path, held_out=True, patch=fields.dit.patch)
    return validation_loss(load_dit(folder, held_out), held_out, fields.evaluation)


class SampleGrid:
    """The same prompts from the same noise, drawn several times in the course of training."""

    def __init__(self, folder: StageFolder, fields: DiTFields) -> None:
        held_out = LatentSet(folder.parent("latents").path, held_out=True, patch=fields.dit.patch)
        self.folder, self.dit, self.evaluation, self.held_out = folder, fields.dit, fields.evaluation, held_out
        self.vae = load_vae(folder.parent("vae"))
        latents = folder.parent("latents")
        self.fps = load_index(latents.parent("data"))[1].fps
        if fields.evaluation.prompts:
            self.prompts = list(fields.evaluation.prompts)
            self.caption = load_text_encoder(latents.stage()).encode(self.prompts, held_out.text_tokens)
            common = Counter(held_out.shape(clip) for clip in range(len(held_out))).most_common(1)[0][0]
            self.shapes = [common] * len(self.prompts)
        else:
            chosen = _distinct(held_out, fields.evaluation.prompt_count)
            self.prompts = [held_out.caption(clip) for clip in chosen]
            self.caption = held_out.text.rows([held_out.entries[clip]["caption"] for clip in chosen])
            self.shapes = [held_out.shape(clip) for clip in chosen]

    def draw(self, shares: list[float], weights: dict[str, torch.Tensor]) -> None:
        """Samples from averaged weights and writes one video per prompt, at each share of training that this is."""
        model = DiT(self.dit, self.held_out.channels, self.held_out.text_dim)
        model.load_state_dict(weights)
        model.to(current_device()).eval()
        target = self.folder.path / "samples"
        seed = self.evaluation.seed
        document = [{"text": text, "seed": seed + number} for number, text in enumerate(self.prompts)]
        write_document(target / "prompts.json", document)
        for number, shape in enumerate(self.shapes):
            latents = sample(
                model,
                self.caption.rows([number]),
                shape,
                [(seed + number, Stream.GRID)],
                Sampler.from_spec(self.evaluation),
            )
            frames = decode(self.vae, latents * self.held_out.std + self.held_out.mean)[0]
            for share in shares:
                write_video(target / moment(share) / f"{number:02d}.mp4", frames, self.fps)


def _nothing(shares: list[float], weights: dict[str, torch.Tensor]) -> None:
    """What the other ranks do while the first one draws."""


def _distinct(data: LatentSet, count: int) -> list[int]:
    """The first clips with captions that differ."""
    seen: dict[str, int] = {}
    for clip in range(len(data)):
        seen.setdefault(data.caption(clip), clip)
    return list(seen.values())[:count]
