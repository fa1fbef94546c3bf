"""Stage `metrics`: the Fréchet video distance of a trained model, sampled with the captions and at the sizes of the
reference's clips. Makes features.safetensors."""

from collections.abc import Iterator, Sequence

import numpy as np

from scaling.accounting.geometry import Grid
from scaling.core.events import Events
from scaling.core.records import RunRecord
from scaling.core.stage import Stage
from scaling.core.stage_fields import DiTFields, MetricsFields, ReferenceFields
from scaling.core.stage_folder import StageFolder
from scaling.core.streams import Stream
from scaling.diffusion.inference import decode, load_dit, load_vae
from scaling.diffusion.latents import LatentSet
from scaling.diffusion.sampling import BATCH_CLIPS, Sampler, sample
from scaling.distributed.devices import current_device
from scaling.distributed.precision import current_precision
from scaling.metrics.i3d import I3D
from scaling.stages.data import load_clips
from scaling.stages.distance import distance_to_reference
from scaling.stages.reference import reference_clips, save_features


def work(folder: StageFolder, stage: Stage, events: Events) -> RunRecord:
    """Samples one video for each clip of the reference and measures them."""
    evaluation = stage.fields_as(MetricsFields).evaluation
    run, reference = folder.parent("dit"), folder.parent("reference")
    fvd = reference.stage().fields_as(ReferenceFields).fvd
    patch = run.stage().fields_as(DiTFields).dit.patch
    latents = LatentSet(folder.parent("latents").path, held_out=True, patch=patch)
    model, vae, network = load_dit(run, latents), load_vae(folder.parent("vae")), I3D().to(current_device())

    clip_list = load_clips(reference.parent("data"))
    row_of = {
        clip.ordinal: row for row, clip in enumerate(clip_list.held_out)
    }  # rows of `latents`, which has no others
    rows = [row_of[clip.ordinal] for clip in reference_clips(clip_list, fvd)]
    features: dict[int, np.ndarray] = {}
    """By place in `rows`."""
    for places in _batches([latents.shape(row) for row in rows]):
        sampled = sample(
            model,
            latents.text.rows([latents.entries[rows[place]]["caption"] for place in places]),
            latents.shape(rows[places[0]]),
            [(evaluation.seed, Stream.FVD, place) for place in places],
            Sampler.from_spec(evaluation),
        )
        for place, latent in zip(places, sampled, strict=True):
            frames = decode(vae, latent[None] * latents.std + latents.mean)
            features[place] = network.features(frames[:, : fvd.frames])
            events.progress(len(features), len(rows))
    all_features = np.concatenate([features[place] for place in range(len(rows))])
    save_features(folder, all_features)

    sampler_fields = {"solver", "sample_steps", "guidance", "guidance_interval"}
    settings = evaluation.model_dump(include=sampler_fields)
    return RunRecord(
        run_id=stage.id,
        stage="metrics",
        vae_id=stage.parents["vae"],
        data_id=reference.stage().parents["data"],
        metrics=distance_to_reference(reference, all_features, evaluation.seed, settings),
        device=current_device().type,
        precision=current_precision(),
    )


def _batches(shapes: Sequence[Grid]) -> Iterator[list[int]]:
    """The places of clips that are sampled together: clips of one shape, at most BATCH_CLIPS of them."""
    for shape in dict.fromkeys(shapes):
        places = [place for place, other_shape in enumerate(shapes) if other_shape == shape]
        for first in range(0, len(places), BATCH_CLIPS):
            yield places[first : first + BATCH_CLIPS]
