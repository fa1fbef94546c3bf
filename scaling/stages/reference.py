"""Stage `reference`: features of held-out clips, to which every Fréchet distance of a sweep is measured.

Makes features.safetensors. The distance to them is measured in `scaling.stages.distance`.
"""

import numpy as np
from safetensors.numpy import save

from scaling.core.errors import UserError
from scaling.core.events import Events
from scaling.core.records import RunRecord
from scaling.core.specs import FVDSpec
from scaling.core.stage import Stage
from scaling.core.stage_fields import ReferenceFields
from scaling.core.stage_folder import StageFolder
from scaling.core.store import write_bytes
from scaling.data.clip_list import ClipList
from scaling.data.clips import Clip, evenly_spaced
from scaling.data.frames import read_frames
from scaling.distributed.devices import current_device
from scaling.metrics.fvd import MIN_CLIPS_TO_EXTRAPOLATE, Features
from scaling.metrics.i3d import EXTRACTOR, I3D
from scaling.stages.data import load_clips


def work(folder: StageFolder, stage: Stage, events: Events) -> RunRecord:
    """Raises UserError where fewer held-out clips than an extrapolation needs are long enough."""
    fields = stage.fields_as(ReferenceFields)
    clips = reference_clips(load_clips(folder.parent("data")), fields.fvd)
    network, features = I3D().to(current_device()), []
    for _, frames in read_frames(clips):
        features.append(network.features(frames[None, : fields.fvd.frames]))
        events.progress(len(features), len(clips))
    save_features(folder, np.concatenate(features))
    return RunRecord(
        run_id=stage.id,
        stage="reference",
        data_id=stage.parents["data"],
        shape={"clips": len(clips), "frames": fields.fvd.frames, "extractor": EXTRACTOR},
        device=current_device().type,
    )


def reference_clips(clip_list: ClipList, fvd: FVDSpec) -> list[Clip]:
    """The held-out clips that are compared: `fvd.clips` of those with at least `fvd.frames` frames, evenly spaced, or
    all of them if there are not so many. Raises UserError where they are too few."""
    clips = [clip for clip in clip_list.held_out if clip.frames >= fvd.frames]
    if len(clips) < MIN_CLIPS_TO_EXTRAPOLATE:
        raise UserError(
            f"{clip_list.videos}: {len(clips)} held-out clips have {fvd.frames} frames, but the Fréchet distance needs "
            f"{MIN_CLIPS_TO_EXTRAPOLATE}; lower 'holdout_every' or 'fvd.frames', or give more videos"
        )
    return evenly_spaced(clips, fvd.clips)


def save_features(folder: StageFolder, features: Features) -> None:
    """Writes features.safetensors. Raises UserError if the disk is full."""
    write_bytes(folder.path / "features.safetensors", save({"features": features}))
