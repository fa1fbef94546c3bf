"""The program of each rank in test_engine.py: `python -m tests.engine_ranks LATENTS OUT`, by `run_together`."""

import shutil
import sys
from pathlib import Path

import torch
from safetensors.torch import save_file

from scaling.core.events import Events
from scaling.core.precision import using_precision
from scaling.core.specs import DiTSpec, EngineSpec, OptimSpec, VAESpec, VAEStage, VAETrainSpec
from scaling.diffusion.flow import seeded_noise
from scaling.diffusion.latents import LatentSet
from scaling.distributed.group import all_gather, process_group
from scaling.distributed.ranks import exit_now, exit_with_parent, rank, world_size
from scaling.distributed.shards import full_on_first_rank
from scaling.models.dit import DiT
from scaling.models.vae import VAE
from scaling.training.batches import FlowBatches
from scaling.training.crops import Crops
from scaling.training.dit import DiTModule
from scaling.training.engine import prepare
from scaling.training.loop import fit
from scaling.training.vae import VAEModule

STEPS, EVERY = 6, 2
DIT = DiTSpec(width=32, depth=2, head_dim=16)
OPTIM = {
    # max_grad_norm is so small that every update is clipped
    kind: OptimSpec(
        optimizer=kind,
        adamw_lr=1e-3,
        batch_tokens=64,
        conditioning_frames=0.3,
        ema_widths=(0.1, 0.05),
        max_grad_norm=0.1,
    )
    for kind in ("adamw", "muon")
}


class Killed(BaseException):
    pass


def train(latents, folder, engine, optimizer="adamw", precision="fp32", until=STEPS, weights_callbacks=None):
    """Trains a DiT. Raises Killed before the update `until`, as if the process had died there."""
    torch.manual_seed(0)
    data, optim = LatentSet(latents, held_out=False, patch=2), OPTIM[optimizer]
    model = DiT(DIT, data.channels, data.text_dim)
    prepare(model, model.blocks, engine)
    module = DiTModule(model, optim, STEPS)
    batches = FlowBatches(data, DIT, optim, 0, rank=rank(), world_size=world_size(), micro_tokens=engine.micro_tokens)

    def batch(step):
        if step == until:
            raise Killed
        return batches(step)

    folder.mkdir(parents=True, exist_ok=True)
    events = Events(folder / "events.jsonl")
    where = folder / "checkpoints"
    with using_precision(precision):
        fit(module, batch, where, events, every=EVERY, engine=engine, weights_callbacks=weights_callbacks)
    return module


def train_vae(folder):
    """Trains a VAE on images and clips of several sizes, in float32, with its discriminator from the beginning."""
    torch.manual_seed(0)
    spec = VAETrainSpec(steps=1, batch_clips=5, crop=16, crop_frames=5, gan_weight=0.1, gan_from=0.0)
    vae = VAE(VAESpec(patch=4, stages=(VAEStage(width=8, down="time"), VAEStage(width=16, down="time"))))
    prepare(vae, [], EngineSpec(processes=world_size()))
    shapes = [(1, 16, 24, 3), (5, 24, 16, 3), (9, 8, 16, 3)]
    clips = [(128 + 60 * seeded_noise(shape, len(shape))).clamp(0, 255).byte().numpy() for shape in shapes]
    crops = Crops(clips, spec, 4, rank=rank(), world_size=world_size())
    module = VAEModule(vae, spec)
    folder.mkdir(parents=True, exist_ok=True)
    engine, events = EngineSpec(processes=world_size()), Events(folder / "events.jsonl")
    with using_precision("fp32"):
        fit(module, crops, folder / "checkpoints", events, every=1, engine=engine)
    return module


def weights(module):
    """The full state at the end of a training, on the first rank."""
    full_tensors = {}
    for group, tensors in module.state().items():
        for name, tensor in full_on_first_rank(tensors).items():
            full_tensors[f"{group}/{name}"] = tensor.detach().clone().contiguous()
    return full_tensors


REPLICATE, SHARD = EngineSpec(processes=2), EngineSpec(processes=2, sharding="shard")
WHOLE = {
    "ddp": {"engine": REPLICATE},
    "ddp-micro": {"engine": REPLICATE.replace(micro_tokens=12)},
    "ddp-muon": {"engine": REPLICATE, "optimizer": "muon"},
    "ddp-bf16": {"engine": REPLICATE, "optimizer": "muon", "precision": "bf16"},
    "fsdp": {"engine": SHARD},
    "fsdp-micro": {"engine": SHARD.replace(micro_tokens=12, checkpoint_activations=True)},
    "fsdp-muon": {"engine": SHARD, "optimizer": "muon"},
    "fsdp-bf16": {"engine": SHARD, "optimizer": "muon", "precision": "bf16"},
}
"""Trainings from beginning to end, by name."""


def main(latents, out):
    for name, how in WHOLE.items():
        keep(out, name, train(latents, out / name, **how))
    keep(out, "vae", train_vae(out / "vae"))
    for name in ("ddp-bf16", "fsdp-muon"):
        folder = out / f"{name}-killed"
        try:
            train(latents, folder, **WHOLE[name], until=5)
        except Killed:
            all_gather(torch.zeros(1))  # the first rank has written its checkpoint
            if rank() == 0:
                shutil.copytree(folder, out / f"{name}-left")
            all_gather(torch.zeros(1))
        keep(out, f"{name}-killed", train(latents, folder, **WHOLE[name]))


def keep(out, name, module):
    tensors = weights(module)
    if rank() == 0:
        save_file(tensors, out / f"{name}.safetensors")


if __name__ == "__main__":
    exit_with_parent()
    with process_group():
        main(*map(Path, sys.argv[1:]))
    exit_now()
