"""Stage `latents`: encodes every clip and every caption once. See `scaling.diffusion.latents` for what it makes."""

from collections.abc import Iterable, Iterator
from itertools import groupby

import numpy as np

from scaling.core.records import RunRecord
from scaling.core.stage import Events, LatentsFields, Stage, StageFolder
from scaling.data.clips import Clip, list_clips, read, split
from scaling.data.video import Frames
from scaling.diffusion.inference import encode, load_vae
from scaling.diffusion.latents import LatentWriter
from scaling.distributed.devices import current_device
from scaling.stages.data import load_index
from scaling.text.load import load_text_encoder

BATCH_CLIPS = 16


def work(folder: StageFolder, stage: Stage, events: Events) -> RunRecord:
    fields = stage.fields_as(LatentsFields)
    index, data = load_index(folder.parent("data"))
    clips = list_clips(index, data)
    held_out = {clip.ordinal for clip in split(clips, data.holdout_every)[1]}
    vae, writer, done = load_vae(folder.parent("vae")), LatentWriter(folder.path), 0
    for _, same_shape in groupby(read(clips), key=lambda pair: pair[1].shape):
        for batch in _batches(same_shape):
            latents = encode(vae, np.stack([frames for _, frames in batch]))
            for (clip, _), latent in zip(batch, latents, strict=True):
                writer.add(latent, clip.caption, clip.ordinal in held_out)
            done += len(batch)
            events.progress(done, len(clips))
    encoder = load_text_encoder(stage).to(current_device())
    writer.finish(encoder.encode(list(writer.captions), fields.text.max_tokens))
    return RunRecord(
        run_id=stage.id,
        stage="latents",
        vae_id=stage.parents["vae"],
        data_id=stage.parents["data"],
        unique_clips=len(clips) - len(held_out),
        shape={"held_out": len(held_out), "captions": len(writer.captions)},
        device=current_device().type,
    )


def _batches(pairs: Iterable[tuple[Clip, Frames]]) -> Iterator[list[tuple[Clip, Frames]]]:
    batch: list[tuple[Clip, Frames]] = []
    for pair in pairs:
        batch.append(pair)
        if len(batch) == BATCH_CLIPS:
            yield batch
            batch = []
    if batch:
        yield batch
