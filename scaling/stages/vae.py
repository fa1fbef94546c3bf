"""Stage `vae`: trains the video VAE on crops of the training clips and measures it on held-out clips.

Makes model.safetensors (averaged weights), training.json, and reconstructions/ with decoded clips and their originals.
"""

import math
from collections import Counter
from collections.abc import Sequence

import torch
from safetensors.torch import save

from scaling.accounting import flops
from scaling.accounting.geometry import Grid
from scaling.core.errors import UserError
from scaling.core.events import Events
from scaling.core.records import Metric, RunRecord
from scaling.core.stage import Stage
from scaling.core.stage_fields import VAEFields
from scaling.core.stage_folder import StageFolder
from scaling.core.store import write_bytes
from scaling.data.clips import Clip, evenly_spaced
from scaling.data.frames import read_frames
from scaling.data.video import write_video
from scaling.diffusion.inference import decode, encode, load_vae
from scaling.distributed.devices import current_device
from scaling.distributed.group import process_group
from scaling.distributed.precision import current_precision
from scaling.distributed.ranks import rank, world_size
from scaling.metrics.fidelity import Fidelity
from scaling.models.causal import Causal
from scaling.models.vae import VAE
from scaling.stages import training_ranks
from scaling.stages.data import load_clips
from scaling.stages.training_result import TrainingResult
from scaling.training.crops import Crops, draw_crops
from scaling.training.engine import prepare
from scaling.training.loop import fit
from scaling.training.vae import VAEModule

CHECKPOINTS = 6
"""Number of checkpoints in the course of the training, at least."""
RECONSTRUCTIONS = 4
"""Number of held-out clips that are written as videos, decoded and original."""
MEASURED_CLIPS = 64
"""Largest number of held-out clips that are measured."""
MOST_TRAINING_CLIPS = 1024
"""Largest number of clips that are held in memory to take crops from."""


def train(folder: StageFolder, stage: Stage, events: Events) -> None:
    """What every rank does. The first rank writes the averaged weights and the training's result. Raises UserError
    where memory ran out with micro-batches of one crop."""
    fields = stage.fields_as(VAEFields)
    if 2 ** (stage.engine.micro_batch_halvings - 1) >= fields.train.batch_clips:
        raise UserError("vae_train: memory runs out even for micro-batches of one crop; lower crop or crop_frames")
    with process_group():
        torch.manual_seed(fields.train.seed)
        vae = VAE(fields.vae)
        n_params = sum(parameter.numel() for parameter in vae.parameters())
        prepare(vae, _blocks(vae), stage.engine)
        module = VAEModule(vae, fields.train)
        clips = evenly_spaced(load_clips(folder.parent("data")).training, MOST_TRAINING_CLIPS)
        pixels = [frames for _, frames in read_frames(clips)]
        micro_batch = math.ceil(fields.train.batch_clips / 2**stage.engine.micro_batch_halvings)
        crops = Crops(
            pixels,
            fields.train,
            fields.vae.spatial_stride,
            rank=rank(),
            world_size=world_size(),
            micro_crops=micro_batch,
        )
        every = max(1, fields.train.steps // CHECKPOINTS)
        fit(module, crops, folder.path / "checkpoints", events, every=every, engine=stage.engine)
        if rank() == 0:
            write_bytes(folder.path / "model.safetensors", save(module.ema.weights))
            train_flops = _train_flops(fields, [(clip.frames, clip.height, clip.width) for clip in clips])
            result = TrainingResult(n_params_total=n_params, unique_clips=len(clips), train_flops=train_flops)
            result.save(folder)


def work(folder: StageFolder, stage: Stage, events: Events) -> RunRecord:
    """Trains and measures."""
    fields = stage.fields_as(VAEFields)
    fidelity = Fidelity(current_device())  # before the training, because its weights may not be available
    training_ranks.train(folder, stage, events)
    result = TrainingResult.load(folder)
    held_out = load_clips(folder.parent("data")).held_out
    return RunRecord(
        run_id=stage.id,
        stage="vae",
        vae_id=stage.id,
        data_id=stage.parents["data"],
        seed=fields.train.seed,
        n_params_total=result.n_params_total,
        unique_clips=result.unique_clips,
        train_flops=result.train_flops,
        learning_rate=fields.train.muon_lr,
        steps=fields.train.steps,
        metrics=_measure(folder, held_out[:MEASURED_CLIPS], fidelity),
        device=current_device().type,
        precision=current_precision(),
    )


def _blocks(vae: VAE) -> list[torch.nn.Module]:
    """The layers of encoder and decoder that are large enough to be compiled, or recomputed, one by one."""
    return [layer for half in (vae.encoder, vae.decoder) for layer in half if isinstance(layer, Causal)]


def _measure(folder: StageFolder, clips: list[Clip], fidelity: Fidelity) -> tuple[Metric, ...]:
    """The fidelity of decoded clips. The first few are written as videos, with their originals."""
    vae = load_vae(folder)
    for number, (clip, frames) in enumerate(read_frames(clips)):
        decoded = decode(vae, encode(vae, frames[None]))[0]
        fidelity.add(decoded, frames)
        if number < RECONSTRUCTIONS:
            write_video(folder.path / "reconstructions" / f"original-{number:02d}.mp4", frames, clip.fps)
            write_video(folder.path / "reconstructions" / f"decoded-{number:02d}.mp4", decoded, clip.fps)
    return fidelity.metrics()


def _train_flops(fields: VAEFields, shapes: Sequence[Grid]) -> float:
    """Training FLOPs of the VAE alone, on crops of clips of these (frames, height, width). Those of the perceptual loss
    and of the discriminator are not counted."""
    sizes = Counter(
        (crop.frames, crop.side)
        for step in range(fields.train.steps)
        for crop in draw_crops(shapes, fields.train, fields.vae.spatial_stride, step)
    )
    return sum(count * flops.vae_training(fields.vae, frames, side, side) for (frames, side), count in sizes.items())
