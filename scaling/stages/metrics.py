"""Stage `metrics`: Fréchet video distance of a trained model, at the captions and sizes of the reference's clips."""

import numpy as np
from safetensors.numpy import save

from scaling.data.clips import list_clips, split
from scaling.flow import Stream
from scaling.frozen import decode, device, load_dit, load_vae
from scaling.latents import LatentSet
from scaling.metrics.fvd import frechet_distance, fvd_at_infinity
from scaling.metrics.i3d import EXTRACTOR, I3D
from scaling.records import Metric, RunRecord
from scaling.sampling import sample
from scaling.stage import DiTFields, Events, MetricsFields, Stage, StageFolder
from scaling.stages.data import load_index
from scaling.stages.reference import comparable, load_features
from scaling.store import write_bytes


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
            steps=evaluation.sample_steps,
            guidance=evaluation.guidance,
        )
        frames = decode(vae, latent * latents.std + latents.mean)
        features.append(network.features(frames[:, : against.frames]))
        events.log(done=len(features), total=len(chosen))
    generated = np.concatenate(features)
    write_bytes(folder.path / "features.safetensors", save({"features": generated}))

    real = load_features(reference)
    infinite, low, high = fvd_at_infinity(real, generated, evaluation.seed)
    settings = {
        "frames": against.frames,
        "sample_steps": evaluation.sample_steps,
        "guidance": evaluation.guidance,
        "seed": evaluation.seed,
    }
    return RunRecord(
        run_id=stage.id,
        stage="metrics",
        vae_id=stage.parents["vae"],
        data_id=reference.stage().parents["data"],
        metrics=(
            Metric(
                name="fvd",
                value=frechet_distance(real, generated),
                n=len(generated),
                extractor=EXTRACTOR,
                settings=settings,
            ),
            Metric(
                name="fvd_infinity",
                value=infinite,
                n=len(generated),
                extractor=EXTRACTOR,
                settings={**settings, "low": low, "high": high},
            ),
        ),
        device=device().type,
    )
