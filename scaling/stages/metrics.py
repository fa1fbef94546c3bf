"""Stage `metrics`: Fréchet video distance of a trained model, at the captions and sizes of the reference's clips."""

import numpy as np
from safetensors.numpy import save

from scaling.data.clips import list_clips, split
from scaling.frozen import decode, device, load_dit, load_vae
from scaling.latents import LatentSet
from scaling.metrics.i3d import I3D
from scaling.records import RunRecord
from scaling.sampling import Sampler, sample
from scaling.stage import DiTFields, Events, MetricsFields, Stage, StageFolder
from scaling.stages.data import load_index
from scaling.stages.reference import comparable, distances
from scaling.store import write_bytes
from scaling.streams import Stream


def work(folder: StageFolder, stage: Stage, events: Events) -> RunRecord:
    fields: MetricsFields = stage.parsed()
    evaluation = fields.evaluation
    run, reference = folder.parent("dit"), folder.parent("reference")
    against = reference.stage().parsed().fvd
    trained: DiTFields = run.stage().parsed()
    latents = LatentSet(folder.parent("latents").path, held_out=True, patch=trained.dit.patch)
    model, vae, network = load_dit(run, latents), load_vae(folder.parent("vae")), I3D().to(device())

    index, data = load_index(reference.parent("data"))
    held_out = [clip.ordinal for clip in split(list_clips(index, data), data.holdout_every)[1]]
    chosen = [held_out.index(clip.ordinal) for clip in comparable(index, data, against.clips, against.frames)]
    features = []
    for number, clip in enumerate(chosen):
        latent = sample(
            model,
            latents.text.rows([latents.entries[clip]["caption"]]),
            latents.shape(clip),
            [(evaluation.seed, Stream.FVD, number)],
            Sampler.of(evaluation),
        )
        frames = decode(vae, latent * latents.std + latents.mean)
        features.append(network.features(frames[:, : against.frames]))
        events.log(done=len(features), total=len(chosen))
    generated = np.concatenate(features)
    write_bytes(folder.path / "features.safetensors", save({"features": generated}))

    sampler = {"solver", "sample_steps", "guidance", "guidance_interval"}
    settings = evaluation.model_dump(mode="json", include=sampler)
    return RunRecord(
        run_id=stage.id,
        stage="metrics",
        vae_id=stage.parents["vae"],
        data_id=reference.stage().parents["data"],
        metrics=distances(reference, generated, evaluation.seed, settings),
        device=device().type,
    )
