"""Stage `latents`: encodes every clip and every caption once. `scaling.diffusion.latents` describes the files it
makes."""

from collections.abc import Iterable, Iterator
from itertools import groupby

import numpy as np

from scaling.core.events import Events
from scaling.core.records import RunRecord
from scaling.core.stage import Stage
from scaling.core.stage_fields import LatentsFields
from scaling.core.stage_folder import StageFolder
from scaling.data.clips import Clip
from scaling.data.frames import read_frames
from scaling.data.video import Frames
from scaling.diffusion.inference import encode, load_vae
from scaling.diffusion.latents import LatentWriter
from scaling.distributed.devices import current_device
from scaling.distributed.precision import current_precision
from scaling.stages.data import load_clips
from scaling.text.load import load_text_encoder

BATCH_CLIPS = 16


def work(folder: StageFolder, stage: Stage, events: Events) -> RunRecord:
    """Encodes the clips in their order, and then the captions."""
    fields = stage.fields_as(LatentsFields)
    clip_list = load_clips(folder.parent("data"))
    vae, writer, done = load_vae(folder.parent("vae")), LatentWriter(folder.path), 0
    for _, clips_of_shape in groupby(read_frames(clip_list.clips), key=lambda pair: pair[1].shape):
        for batch in _batches(clips_of_shape):
            latents = encode(vae, np.stack([frames for _, frames in batch]))
            for (clip, _), latent in zip(batch, latents, strict=True):
                writer.add(latent, clip.caption, clip.ordinal in clip_list.held_out_ordinals)
            done += len(batch)
            events.progress(done, len(clip_list.clips))
    encoder = load_text_encoder(stage).to(current_device())
    writer.finish(encoder.encode(list(writer.captions), fields.text.max_tokens))
    return RunRecord(
        run_id=stage.id,
        stage="latents",
        vae_id=stage.parents["vae"],
        data_id=stage.parents["data"],
        unique_clips=len(clip_list.training),
        shape={"held_out": len(clip_list.held_out), "captions": len(writer.captions)},
        device=current_device().type,
        precision=current_precision(),
    )


def _batches(pairs: Iterable[tuple[Clip, Frames]]) -> Iterator[list[tuple[Clip, Frames]]]:
    """The clips in lists of BATCH_CLIPS, in their order."""
    batch: list[tuple[Clip, Frames]] = []
    for pair in pairs:
        batch.append(pair)
        if len(batch) == BATCH_CLIPS:
            yield batch
            batch = []
    if batch:
        yield batch
