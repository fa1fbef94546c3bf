"""Stage `reconstruction`: the Fréchet distance between the reference's clips and the same clips encoded and decoded by
the VAE (rFVD). A model on the latents of this VAE cannot be expected to come closer. Makes features.safetensors."""

import numpy as np

from scaling.core.events import Events
from scaling.core.records import RunRecord
from scaling.core.stage import Stage
from scaling.core.stage_fields import ReconstructionFields, ReferenceFields
from scaling.core.stage_folder import StageFolder
from scaling.data.frames import read_frames
from scaling.diffusion.inference import decode, encode, load_vae
from scaling.distributed.devices import current_device
from scaling.distributed.precision import current_precision
from scaling.metrics.i3d import I3D
from scaling.stages.data import load_clips
from scaling.stages.distance import distance_to_reference
from scaling.stages.reference import reference_clips, save_features


def work(folder: StageFolder, stage: Stage, events: Events) -> RunRecord:
    """Encodes, decodes and measures the clips one by one."""
    fields = stage.fields_as(ReconstructionFields)
    reference = folder.parent("reference")
    fvd = reference.stage().fields_as(ReferenceFields).fvd
    clips = reference_clips(load_clips(reference.parent("data")), fvd)
    vae, network, feature_rows = load_vae(folder.parent("vae")), I3D().to(current_device()), []
    for _, frames in read_frames(clips):
        decoded = decode(vae, encode(vae, frames[None]))
        feature_rows.append(network.features(decoded[:, : fvd.frames]))
        events.progress(len(feature_rows), len(clips))
    features = np.concatenate(feature_rows)
    save_features(folder, features)
    return RunRecord(
        run_id=stage.id,
        stage="reconstruction",
        vae_id=stage.parents["vae"],
        data_id=reference.stage().parents["data"],
        metrics=distance_to_reference(reference, features, fields.seed, {}, name="rfvd"),
        device=current_device().type,
        precision=current_precision(),
    )
