"""Stage `vae`: trains the video VAE on crops of the training clips. Makes model.safetensors and reconstructions/."""

import numpy as np
import torch
from safetensors.torch import save

from scaling import flops
from scaling.data.clips import Clip, list_clips, read, split, spread
from scaling.data.video import write_video
from scaling.frozen import decode, device, encode, load_vae
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
    torch.manual_seed(fields.train.seed)
    module = VAEModule(VAE(fields.vae), fields.train)
    crops = Crops(pixels, fields.train, fields.vae.spatial_stride)
    every = max(1, fields.train.steps // CHECKPOINTS)
    fit(module, crops, folder.path / "checkpoints", events, every=every)
    write_bytes(folder.path / "model.safetensors", save(module.ema.weights))
    quality = _measure(folder, load_vae(folder), held_out[:MEASURED])
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


def _measure(folder: StageFolder, vae: VAE, clips: list[Clip]) -> tuple[Metric, ...]:
    """PSNR over held-out clips; the first few are written as videos beside their originals."""
    values = []
    for number, (clip, frames) in enumerate(read(clips)):
        restored = decode(vae, encode(vae, frames[None]))[0]
        error = np.square(restored.astype(np.float64) - frames).mean()
        values.append(10 * np.log10(255**2 / max(error, 1e-10)))
        if number < SHOWN:
            write_video(folder.path / "reconstructions" / f"original-{number:02d}.mp4", frames, clip.fps)
            write_video(folder.path / "reconstructions" / f"decoded-{number:02d}.mp4", restored, clip.fps)
    standard_error = float(np.std(values, ddof=1) / np.sqrt(len(values))) if len(values) > 1 else None
    return (Metric(name="psnr", value=float(np.mean(values)), standard_error=standard_error, n=len(values)),)


def _train_flops(fields: VAEFields) -> float:
    train = fields.train
    return train.steps * train.batch_clips * flops.vae_training(fields.vae, train.crop_frames, train.crop, train.crop)
