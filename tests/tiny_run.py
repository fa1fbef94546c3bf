"""A `dit` stage with complete parents that trains in a second, for tests of how stages are run."""

import torch

from scaling.accounting.presets import VAE_PRESETS
from scaling.core.specs import DataSpec, EngineSpec, EvalSpec, TextSpec, VAETrainSpec, WorldSpec
from scaling.core.stage import Stage
from scaling.core.stage_fields import DataFields, DiTFields, LatentsFields, VAEFields
from scaling.core.stage_folder import StageFolder
from scaling.diffusion.flow import seeded_noise
from scaling.diffusion.latents import LatentWriter
from scaling.stages.run import run_stage
from scaling.text.encoded_captions import EncodedCaptions
from tests.engine_ranks import DIT, OPTIM


def write_latents(folder, channels=3):
    """Writes random latents of two shapes, with random states for their captions."""
    writer = LatentWriter(folder)
    for number in range(24):
        shape = (2, 4, 4, channels) if number % 3 else (1, 4, 6, channels)
        writer.add(seeded_noise(shape, 1, number) * 2 + 1, f"caption {number % 5}", number % 6 == 5)
    mask = torch.ones(5, 4, dtype=torch.bool)
    writer.finish(EncodedCaptions(seeded_noise((5, 4, 384), 2), mask, seeded_noise((5, 384), 3)))


def make_run(runs, *, optimizer, flop_budget, sample_at, engine=None):
    """The folder of the stage, which has not been run. Its parents are complete; their latents are random."""
    spec = DataSpec(worlds=WorldSpec(count=9, frames=10), frames=5, holdout_every=8)
    data = Stage(slug="data", fields=DataFields(data=spec), parents={})
    run_stage(str(StageFolder.create(runs, data).path))
    vae_fields = VAEFields(vae=VAE_PRESETS["tiny"], train=VAETrainSpec(steps=1, crop_frames=5))
    vae = Stage(slug="vae", fields=vae_fields, parents={"data": data.id})
    run_stage(str(StageFolder.create(runs, vae).path))
    cache = Stage(slug="latents", fields=LatentsFields(text=TextSpec()), parents={"data": data.id, "vae": vae.id})
    StageFolder.create(runs, cache).finish()
    write_latents(runs / cache.id, VAE_PRESETS["tiny"].latent_channels)
    evaluation = EvalSpec(val_clips=4, val_times=2, prompt_count=1, sample_steps=2, sample_at=sample_at)
    fields = DiTFields(dit=DIT, optim=OPTIM[optimizer], evaluation=evaluation, flop_budget=flop_budget)
    parents = {"vae": vae.id, "latents": cache.id}
    return StageFolder.create(runs, Stage(slug="dit", fields=fields, parents=parents, engine=engine or EngineSpec()))
