"""Stage `vae`: trains the video VAE on crops of the training clips. Makes model.safetensors and reconstructions/."""

import math
from collections import Counter

import torch
from safetensors.torch import save

from scaling.accounting import flops
from scaling.core.errors import UserError
from scaling.core.records import Metric, RunRecord
from scaling.core.stage import Events, Stage, StageFolder, VAEFields
from scaling.core.store import write_bytes
from scaling.data.clips import Clip, list_clips, read, split, spread
from scaling.data.video import write_video
from scaling.diffusion.inference import decode, encode, load_vae
from scaling.distributed.devices import current_device
from scaling.distributed.group import process_group
from scaling.distributed.ranks import rank, ranks
from scaling.metrics.fidelity import Fidelity
from scaling.models.causal import Causal
from scaling.models.vae import VAE
from scaling.stages.data import load_index
from scaling.stages.run import train_together
from scaling.training.crops import Crops, draw_crops
from scaling.training.engine import prepare
from scaling.training.fit import fit
from scaling.training.vae import VAEModule

CHECKPOINTS = 6
SHOWN, MEASURED = 4, 64
"""Held-out clips that are shown beside their originals, and at most so many that are measured."""
MOST_TRAINING_CLIPS = 1024
"""Clips held in memory to draw crops from."""


def train(folder: StageFolder, stage: Stage, events: Events) -> None:
    """What every rank does; the first one leaves the averaged weights. Raises UserError where memory ran out with
    micro-batches of one crop."""
    fields = stage.fields_as(VAEFields)
    if 2 ** (stage.engine.micro_batch_halvings - 1) >= fields.train.batch_clips:
        raise UserError("vae_train: memory runs out even for micro-batches of one crop; lower crop or crop_frames")
    with process_group():
        torch.manual_seed(fields.train.seed)
        vae = VAE(fields.vae)
        prepare(vae, _blocks(vae), stage.engine)
        module = VAEModule(vae, fields.train)
        every = max(1, fields.train.steps // CHECKPOINTS)
        pixels = [frames for _, frames in read(_clips(folder)[0])]
        most = math.ceil(fields.train.batch_clips / 2**stage.engine.micro_batch_halvings)
        crops = Crops(pixels, fields.train, fields.vae.spatial_stride, rank=rank(), ranks=ranks(), micro_crops=most)
        fit(module, crops, folder.path / "checkpoints", events, every=every, engine=stage.engine)
        if rank() == 0:
            write_bytes(folder.path / "model.safetensors", save(module.ema.weights))


def work(folder: StageFolder, stage: Stage, events: Events) -> RunRecord:
    fields = stage.fields_as(VAEFields)
    fidelity = Fidelity(current_device())  # before the training, because its weights may not be there
    train_together(folder, stage, events)
    vae = load_vae(folder)
    clips, held_out = _clips(folder)
    return RunRecord(
        run_id=stage.id,
        stage="vae",
        vae_id=stage.id,
        data_id=stage.parents["data"],
        seed=fields.train.seed,
        n_params_total=sum(parameter.numel() for parameter in vae.parameters()),
        unique_clips=len(clips),
        train_flops=_train_flops(fields, clips),
        learning_rate=fields.train.muon_lr,
        steps=fields.train.steps,
        metrics=_measure(folder, vae, held_out[:MEASURED], fidelity),
        device=current_device().type,
    )


def _clips(folder: StageFolder) -> tuple[list[Clip], list[Clip]]:
    """Those that crops are drawn from, and those held out."""
    index, data = load_index(folder.parent("data"))
    clips, held_out = split(list_clips(index, data), data.holdout_every)
    return spread(clips, MOST_TRAINING_CLIPS), held_out


def _blocks(vae: VAE) -> list[torch.nn.Module]:
    """The layers of both halves that are worth compiling, or recomputing, by themselves."""
    return [layer for half in (vae.encoder, vae.decoder) for layer in half if isinstance(layer, Causal)]


def _measure(folder: StageFolder, vae: VAE, clips: list[Clip], fidelity: Fidelity) -> tuple[Metric, ...]:
    """Of decoded held-out clips; the first few are written as videos beside their originals."""
    for number, (clip, frames) in enumerate(read(clips)):
        restored = decode(vae, encode(vae, frames[None]))[0]
        fidelity.add(restored, frames)
        if number < SHOWN:
            write_video(folder.path / "reconstructions" / f"original-{number:02d}.mp4", frames, clip.fps)
            write_video(folder.path / "reconstructions" / f"decoded-{number:02d}.mp4", restored, clip.fps)
    return fidelity.metrics()


def _train_flops(fields: VAEFields, clips: list[Clip]) -> float:
    """Of the VAE alone: what the perceptual loss and the discriminator add is not counted."""
    shapes = [(clip.frames, clip.height, clip.width) for clip in clips]
    sizes = Counter(
        (crop.frames, crop.side)
        for step in range(fields.train.steps)
        for crop in draw_crops(shapes, fields.train, fields.vae.spatial_stride, step)
    )
    return sum(count * flops.vae_training(fields.vae, frames, side, side) for (frames, side), count in sizes.items())
