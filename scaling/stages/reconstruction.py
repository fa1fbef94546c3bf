"""Stage `reconstruction`: Fréchet distance of the reference's clips after the VAE's encoder and decoder to themselves
before (rFVD). What a model of these latents is measured on cannot be expected to come nearer. Makes
features.safetensors."""

import numpy as np
from safetensors.numpy import save

from scaling.core.records import RunRecord
from scaling.core.stage import Events, ReconstructionFields, ReferenceFields, Stage, StageFolder
from scaling.core.store import write_bytes
from scaling.data.clips import read
from scaling.diffusion.inference import decode, encode, load_vae
from scaling.distributed.devices import current_device
from scaling.metrics.i3d import I3D
from scaling.stages.data import load_index
from scaling.stages.reference import comparable, distances


def work(folder: StageFolder, stage: Stage, events: Events) -> RunRecord:
    fields = stage.fields_as(ReconstructionFields)
    reference = folder.parent("reference")
    against = reference.stage().fields_as(ReferenceFields).fvd
    index, data = load_index(reference.parent("data"))
    clips = comparable(index, data, against.clips, against.frames)
    vae, network, features = load_vae(folder.parent("vae")), I3D().to(current_device()), []
    for _, frames in read(clips):
        decoded = decode(vae, encode(vae, frames[None]))
        features.append(network.features(decoded[:, : against.frames]))
        events.progress(len(features), len(clips))
    decoded_features = np.concatenate(features)
    write_bytes(folder.path / "features.safetensors", save({"features": decoded_features}))
    return RunRecord(
        run_id=stage.id,
        stage="reconstruction",
        vae_id=stage.parents["vae"],
        data_id=reference.stage().parents["data"],
        metrics=distances(reference, decoded_features, fields.seed, {}, name="rfvd"),
        device=current_device().type,
    )
