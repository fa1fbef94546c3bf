"""Stage `metrics`: Fréchet video distance of a trained model, at the captions and sizes of the reference's clips."""

from collections.abc import Iterator, Sequence

import numpy as np
from safetensors.numpy import save

from scaling.accounting.geometry import Grid
from scaling.core.records import RunRecord
from scaling.core.stage import DiTFields, Events, MetricsFields, ReferenceFields, Stage, StageFolder
from scaling.core.store import write_bytes
from scaling.core.streams import Stream
from scaling.data.clips import list_clips, split
from scaling.diffusion.inference import decode, load_dit, load_vae
from scaling.diffusion.latents import LatentSet
from scaling.diffusion.sampling import BATCH_CLIPS, Sampler, sample
from scaling.distributed.devices import current_device
from scaling.metrics.i3d import I3D
from scaling.stages.data import load_index
from scaling.stages.reference import comparable, distances


def work(folder: StageFolder, stage: Stage, events: Events) -> RunRecord:
    fields = stage.fields_as(MetricsFields)
    evaluation = fields.evaluation
    run, reference = folder.parent("dit"), folder.parent("reference")
    against = reference.stage().fields_as(ReferenceFields).fvd
    trained = run.stage().fields_as(DiTFields)
    latents = LatentSet(folder.parent("latents").path, held_out=True, patch=trained.dit.patch)
    model, vae, network = load_dit(run, latents), load_vae(folder.parent("vae")), I3D().to(current_device())

    index, data = load_index(reference.parent("data"))
    held_out = [clip.ordinal for clip in split(list_clips(index, data), data.holdout_every)[1]]
    chosen = [held_out.index(clip.ordinal) for clip in comparable(index, data, against.clips, against.frames)]
    features: dict[int, np.ndarray] = {}
    """By place among the chosen."""
    for places in _batches([latents.shape(clip) for clip in chosen]):
        drawn = sample(
            model,
            latents.text.rows([latents.entries[chosen[place]]["caption"] for place in places]),
            latents.shape(chosen[places[0]]),
            [(evaluation.seed, Stream.FVD, place) for place in places],
            Sampler.from_spec(evaluation),
        )
        for place, latent in zip(places, drawn, strict=True):
            frames = decode(vae, latent[None] * latents.std + latents.mean)
            features[place] = network.features(frames[:, : against.frames])
            events.progress(len(features), len(chosen))
    generated = np.concatenate([features[place] for place in range(len(chosen))])
    write_bytes(folder.path / "features.safetensors", save({"features": generated}))

    sampler = {"solver", "sample_steps", "guidance", "guidance_interval"}
    settings = evaluation.model_dump(mode="json", include=sampler)
    return RunRecord(
        run_id=stage.id,
        stage="metrics",
        vae_id=stage.parents["vae"],
        data_id=reference.stage().parents["data"],
        metrics=distances(reference, generated, evaluation.seed, settings),
        device=current_device().type,
    )


def _batches(shapes: Sequence[Grid]) -> Iterator[list[int]]:
    """Places of clips that are drawn together: of one shape, as many as the sampler takes at once."""
    for shape in dict.fromkeys(shapes):
        places = [place for place, other in enumerate(shapes) if other == shape]
        for first in range(0, len(places), BATCH_CLIPS):
            yield places[first : first + BATCH_CLIPS]
