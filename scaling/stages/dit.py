"""Stage `dit`: trains one model to its FLOP budget, samples a grid of videos on the way, and measures its validation
loss.

Makes model.safetensors (averaged weights), training.json, and samples/at-<share>/<number>.mp4 with
samples/prompts.json. A run that diverges is a result too: training.json and the record say after how many updates, and
there is no loss.
"""

from functools import partial

import torch
from safetensors.torch import save

from scaling.core.errors import DivergedError
from scaling.core.events import Events
from scaling.core.records import Metric, RunRecord
from scaling.core.stage import Stage
from scaling.core.stage_fields import DiTFields
from scaling.core.stage_folder import StageFolder
from scaling.core.store import write_bytes
from scaling.diffusion.inference import load_dit
from scaling.diffusion.latents import LatentSet
from scaling.distributed.devices import current_device, peak_flops
from scaling.distributed.group import process_group
from scaling.distributed.precision import current_precision
from scaling.distributed.ranks import rank
from scaling.distributed.shards import full_on_first_rank
from scaling.stages import training_ranks
from scaling.stages.dit_training import DiTTraining, updates_of_trunk
from scaling.stages.sample_grid import SampleGrid
from scaling.stages.training_result import DiTTrainingResult
from scaling.training.loop import WeightsCallback
from scaling.training.validation import validation_loss


def train(folder: StageFolder, stage: Stage, events: Events) -> None:
    """What every rank does. The first rank writes the sample grids, the averaged weights and the training's result."""
    fields = stage.fields_as(DiTFields)
    with process_group():
        training = DiTTraining.set_up(folder, stage)
        try:
            update_seconds = training.run(events, _sample_callbacks(folder, fields, training.budget.steps))
        except DivergedError as error:  # on all ranks alike
            if rank() == 0:
                training.result(error.done, diverged=True).save(folder)
            return
        weights = full_on_first_rank(training.module.ema.weights)
        if rank() == 0:
            write_bytes(folder.path / "model.safetensors", save(weights))
            training.result(training.budget.steps, update_seconds).save(folder)


def work(folder: StageFolder, stage: Stage, events: Events) -> RunRecord:
    """Trains and measures."""
    fields = stage.fields_as(DiTFields)
    training_ranks.train(folder, stage, events)
    result = DiTTrainingResult.load(folder)
    peak = peak_flops()
    flops_per_second = result.update_seconds and result.train_flops / result.steps / result.update_seconds
    return RunRecord(
        run_id=stage.id,
        stage="dit",
        vae_id=stage.parents["vae"],
        data_id=folder.parent("latents").stage().parents["data"],
        seed=fields.seed,
        n_params=result.n_params,
        n_params_total=result.n_params_total,
        num_tokens=result.num_tokens,
        unique_clips=result.unique_clips,
        unique_tokens=result.unique_tokens,
        flop_budget=fields.flop_budget,
        train_flops=result.train_flops,
        spent_flops=result.spent_flops(updates_of_trunk(folder, stage)),
        learning_rate=fields.optim.muon_lr if fields.optim.optimizer == "muon" else fields.optim.adamw_lr,
        batch_tokens=result.num_tokens / result.steps,
        adamw_lr=fields.optim.adamw_lr,
        optimizer=fields.optim.optimizer,
        warmup_steps=result.warmup_steps,
        decay_steps=result.decay_steps,
        steps=result.steps,
        shape={"width": fields.dit.width, "depth": fields.dit.depth, "prediction": fields.dit.prediction},
        metrics=() if result.diverged else _measure(folder, fields),
        diverged_at=result.updates_done if result.diverged else None,
        device=current_device().type,
        precision=current_precision(),
        flops_per_second=flops_per_second,
        mfu=flops_per_second / (peak * stage.engine.processes) if flops_per_second and peak else None,
    )


def _sample_callbacks(folder: StageFolder, fields: DiTFields, steps: int) -> dict[int, WeightsCallback]:
    """After which updates the sample grid is written, and the function that does so, which the first rank calls."""
    shares_at: dict[int, list[float]] = {}
    for share in fields.evaluation.sample_at:
        shares_at.setdefault(max(1, round(share * steps)), []).append(share)
    write = SampleGrid(folder, fields).write if rank() == 0 else _write_nothing
    return {update: partial(write, shares) for update, shares in shares_at.items()}


def _write_nothing(shares: list[float], weights: dict[str, torch.Tensor]) -> None:
    """What the other ranks have in place of a sample grid."""


def _measure(folder: StageFolder, fields: DiTFields) -> tuple[Metric, ...]:
    """The validation loss of the averaged weights."""
    held_out = LatentSet(folder.parent("latents").path, held_out=True, patch=fields.dit.patch)
    return validation_loss(load_dit(folder, held_out), held_out, fields.evaluation)
