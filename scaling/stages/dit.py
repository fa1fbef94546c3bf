"""Stage `dit`: trains one model to its FLOP budget, samples the grid on the way, and measures its validation loss.

Makes model.safetensors (averaged weights), and samples/at-<fraction>/<prompt>.mp4 with samples/prompts.json.
"""

import math
from collections import Counter
from functools import partial

import torch
from safetensors.torch import save

from scaling import flops
from scaling.data.video import write_video
from scaling.flow import Stream
from scaling.frozen import decode, device, load_dit, load_vae
from scaling.latents import LatentSet
from scaling.models.dit import DiT
from scaling.records import RunRecord
from scaling.sampling import averaged, sample
from scaling.stage import DiTFields, Events, LatentsFields, Stage, StageFolder, moment
from scaling.stages.data import load_index
from scaling.store import write_bytes, write_document
from scaling.text import TextEncoder
from scaling.training.dit import DiTModule, steps_within
from scaling.training.fit import fit
from scaling.validation import validation_loss

CHECKPOINTS = 8
"""Checkpoints in the course of a run."""


def work(folder: StageFolder, stage: Stage, events: Events) -> RunRecord:
    fields: DiTFields = stage.parsed()
    latents = folder.parent("latents")
    train = LatentSet(latents.path, held_out=False, patch=fields.dit.patch)
    held_out = LatentSet(latents.path, held_out=True, patch=fields.dit.patch)
    torch.manual_seed(fields.seed)
    model = DiT(fields.dit, train.channels, train.text_dim)
    budget = steps_within(model, train, fields.optim, fields.seed, fields.flop_budget)
    module = DiTModule(model, fields.optim, budget.steps, fields.seed)
    grid = SampleGrid(folder, fields, held_out)
    shares: dict[int, list[float]] = {}
    for share in fields.evaluation.sample_at:
        shares.setdefault(max(1, round(share * budget.steps)), []).append(share)
    visits = {step: partial(grid.draw, module, at) for step, at in shares.items()}
    update_seconds = fit(
        module,
        lambda step: train.pack(train.order(step, fields.optim.batch_clips, fields.seed)),
        folder.path / "checkpoints",
        events,
        every=max(1, budget.steps // CHECKPOINTS),
        visits=visits,
    )
    write_bytes(folder.path / "model.safetensors", save(module.ema.weights))
    groups = model.count_params()
    return RunRecord(
        run_id=stage.id,
        stage="dit",
        vae_id=stage.parents["vae"],
        data_id=latents.stage().parents["data"],
        seed=fields.seed,
        n_params=flops.non_embedding(groups),
        n_params_total=sum(groups.values()),
        num_tokens=budget.num_tokens,
        unique_clips=len(train),
        unique_tokens=sum(math.prod(grid) for grid in train.grids),
        flop_budget=fields.flop_budget,
        train_flops=budget.train_flops,
        learning_rate=fields.optim.muon_lr,
        batch_tokens=budget.num_tokens / budget.steps,
        schedule=f"warm-up {fields.optim.warmup:g}, linear decay over the last {fields.optim.decay:g}",
        steps=budget.steps,
        shape={"width": fields.dit.width, "depth": fields.dit.depth, "prediction": fields.dit.prediction},
        metrics=validation_loss(load_dit(folder, held_out), held_out, fields.evaluation),
        device=device().type,
        flops_per_second=update_seconds and budget.train_flops / budget.steps / update_seconds,
    )


class SampleGrid:
    """The same prompts from the same noise, drawn several times in the course of training."""

    def __init__(self, folder: StageFolder, fields: DiTFields, held_out: LatentSet) -> None:
        self.folder, self.evaluation, self.held_out = folder, fields.evaluation, held_out
        self.vae = load_vae(folder.parent("vae"))
        latents = folder.parent("latents")
        self.fps = load_index(latents.parent("data"))[1].fps
        if fields.evaluation.prompts:
            text: LatentsFields = latents.stage().parsed()
            self.prompts = list(fields.evaluation.prompts)
            self.caption = TextEncoder().encode(self.prompts, text.text.max_tokens)
            common = Counter(held_out.shape(clip) for clip in range(len(held_out))).most_common(1)[0][0]
            self.shapes = [common] * len(self.prompts)
        else:
            chosen = _distinct(held_out, fields.evaluation.prompt_count)
            self.prompts = [held_out.caption(clip) for clip in chosen]
            self.caption = held_out.text.rows([held_out.entries[clip]["caption"] for clip in chosen])
            self.shapes = [held_out.shape(clip) for clip in chosen]

    def draw(self, module: DiTModule, shares: list[float]) -> None:
        """Samples from the averaged weights and writes one video per prompt, at each share of training that this is."""
        model = averaged(module.dit, module.ema.weights)
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
                steps=self.evaluation.sample_steps,
                guidance=self.evaluation.guidance,
            )
            frames = decode(self.vae, latents * self.held_out.std + self.held_out.mean)[0]
            for share in shares:
                write_video(target / moment(share) / f"{number:02d}.mp4", frames, self.fps)


def _distinct(data: LatentSet, count: int) -> list[int]:
    """The first clips with captions that differ."""
    seen: dict[str, int] = {}
    for clip in range(len(data)):
        seen.setdefault(data.caption(clip), clip)
    return list(seen.values())[:count]
