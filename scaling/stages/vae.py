"""Stage `vae`: trains the video VAE on crops of the training clips. Makes model.safetensors and reconstructions/."""

import torch
from safetensors.torch import save

from scaling import flops
from scaling.data.clips import Clip, list_clips, read, split, spread
from scaling.data.video import write_video
from scaling.frozen import decode, device, encode, load_vae
from scaling.metrics.fidelity import Fidelity
from scaling.models.vae import VAE
from scaling.records import Metric, RunRecord
from scaling.stage import Events, Stage, StageFolder, VAEFields
from scaling.stages.data import load_index
from scaling.store import write_bytes
from scaling.training.fit import fit
from scaling.training.vae import Crops, VAEModule

CHECKPOINTS = 6
SHOWN, MEASURED = 4, 64
"""Held-out clips that are shown beside their originals, and at most so many that are measured."""
MOST_TRAINING_CLIPS = 1024
"""Clips held in memory to draw crops from."""


def work(folder: StageFolder, stage: Stage, events: Events) -> RunRecord:
    fields: VAEFields = stage.parsed()
    index, data = load_index(folder.parent("data"))
    train_clips, held_out = split(list_clips(index, data), data.holdout_every)
    pixels = [frames for _, frames in read(spread(train_clips, MOST_TRAINING_CLIPS))]
    fidelity = Fidelity(device())  # before the training, because its weights may not be there
    torch.manual_seed(fields.train.seed)
    module = VAEModule(VAE(fields.vae), fields.train)
    crops = Crops(pixels, fields.train, fields.vae.spatial_stride)
    every = max(1, fields.train.steps // CHECKPOINTS)
    fit(module, crops, folder.path / "checkpoints", events, every=every)
    write_bytes(folder.path / "model.safetensors", save(module.ema.weights))
    quality = _measure(folder, load_vae(folder), held_out[:MEASURED], fidelity)
    return RunRecord(
        run_id=stage.id,
        stage="vae",
        vae_id=stage.id,
        data_id=stage.parents["data"],
        seed=fields.train.seed,
        n_params_total=sum(parameter.numel() for parameter in module.vae.parameters()),
        unique_clips=len(pixels),
        train_flops=_train_flops(fields),
        learning_rate=fields.train.muon_lr,
        steps=fields.train.steps,
        metrics=quality,
        device=device().type,
    )


def _measure(folder: StageFolder, vae: VAE, clips: list[Clip], fidelity: Fidelity) -> tuple[Metric, ...]:
    """Of decoded held-out clips; the first few are written as videos beside their originals."""
    for number, (clip, frames) in enumerate(read(clips)):
        restored = decode(vae, encode(vae, frames[None]))[0]
        fidelity.add(restored, frames)
        if number < SHOWN:
            write_video(folder.path / "reconstructions" / f"original-{number:02d}.mp4", frames, clip.fps)
            write_video(folder.path / "reconstructions" / f"decoded-{number:02d}.mp4", restored, clip.fps)
    return fidelity.metrics()


def _train_flops(fields: VAEFields) -> float:
    """Of the VAE alone: what the perceptual loss and the discriminator add is not counted."""
    train = fields.train
    return train.steps * train.batch_clips * flops.vae_training(fields.vae, train.crop_frames, train.crop, train.crop)
