"""Stage `reference`: features of held-out real clips, the fixed side of every Fréchet distance.

Makes features.safetensors.
"""

import numpy as np
from safetensors.numpy import load_file, save_file

from scaling.data.clips import Clip, list_clips, read, split
from scaling.data.index import Index
from scaling.errors import UserError
from scaling.metrics.fvd import MIN_CLIPS_TO_EXTRAPOLATE
from scaling.metrics.i3d import EXTRACTOR, I3D
from scaling.records import RunRecord
from scaling.specs import DataSpec
from scaling.stage import Events, ReferenceFields, Stage, StageFolder
from scaling.stages.data import load_index
from scaling.store import replacing
from scaling.training.fit import device


def work(folder: StageFolder, stage: Stage, events: Events) -> RunRecord:
    """Raises UserError where fewer held-out clips than an extrapolation needs are long enough."""
    fields: ReferenceFields = stage.parsed()
    index, data = load_index(folder.parent("data"))
    clips = comparable(index, data, fields.fvd_clips, fields.fvd_frames)
    network, features = I3D().to(device()), []
    for _, frames in read(clips):
        features.append(network.features(frames[None, : fields.fvd_frames]))
        events.log(done=len(features), total=len(clips))
    with replacing(folder.path / "features.safetensors") as tmp:
        save_file({"features": np.concatenate(features)}, tmp)
    return RunRecord(
        run_id=stage.id,
        stage="reference",
        data_id=stage.parents["data"],
        shape={"clips": len(clips), "frames": fields.fvd_frames, "extractor": EXTRACTOR},
        device=device().type,
    )


def comparable(index: Index, data: DataSpec, count: int, frames: int) -> list[Clip]:
    """The first `count` held-out clips of at least `frames` frames; fewer if there are not so many.

    They are spread evenly over the held-out clips, so that they come from as many videos as can be.
    """
    held_out = [clip for clip in split(list_clips(index, data), data.holdout_every)[1] if clip.frames >= frames]
    if len(held_out) < MIN_CLIPS_TO_EXTRAPOLATE:
        raise UserError(
            f"{index.folder}: {len(held_out)} held-out clips have {frames} frames, but the Fréchet distance needs "
            f"{MIN_CLIPS_TO_EXTRAPOLATE}; "
            "lower 'holdout_every' or 'fvd_frames', or give more videos"
        )
    chosen = np.linspace(0, len(held_out) - 1, min(count, len(held_out))).round().astype(int)
    return [held_out[number] for number in chosen]


def load_features(folder: StageFolder) -> np.ndarray:
    """(clips, 400) of a complete `reference` stage."""
    return load_file(folder.path / "features.safetensors")["features"]
