"""Stage `reference`: features of held-out real clips, the fixed side of every Fréchet distance.

Makes features.safetensors.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
from safetensors.numpy import load_file, save

from scaling.core.errors import UserError
from scaling.core.records import Metric, RunRecord
from scaling.core.specs import DataSpec
from scaling.core.stage import Events, ReferenceFields, Stage, StageFolder
from scaling.core.store import write_bytes
from scaling.data.clips import Clip, list_clips, read, split, spread
from scaling.data.index import Index
from scaling.distributed.devices import current_device
from scaling.metrics.fvd import MIN_CLIPS_TO_EXTRAPOLATE, frechet_distance, fvd_at_infinity
from scaling.metrics.i3d import EXTRACTOR, I3D
from scaling.stages.data import load_index


def work(folder: StageFolder, stage: Stage, events: Events) -> RunRecord:
    """Raises UserError where fewer held-out clips than an extrapolation needs are long enough."""
    fields = stage.fields_as(ReferenceFields)
    index, data = load_index(folder.parent("data"))
    clips = comparable(index, data, fields.fvd.clips, fields.fvd.frames)
    network, features = I3D().to(current_device()), []
    for _, frames in read(clips):
        features.append(network.features(frames[None, : fields.fvd.frames]))
        events.progress(len(features), len(clips))
    write_bytes(folder.path / "features.safetensors", save({"features": np.concatenate(features)}))
    return RunRecord(
        run_id=stage.id,
        stage="reference",
        data_id=stage.parents["data"],
        shape={"clips": len(clips), "frames": fields.fvd.frames, "extractor": EXTRACTOR},
        device=current_device().type,
    )


def comparable(index: Index, data: DataSpec, count: int, frames: int) -> list[Clip]:
    """`count` held-out clips of at least `frames` frames, spread evenly over them; fewer if there are not so many."""
    held_out = [clip for clip in split(list_clips(index, data), data.holdout_every)[1] if clip.frames >= frames]
    if len(held_out) < MIN_CLIPS_TO_EXTRAPOLATE:
        raise UserError(
            f"{index.folder}: {len(held_out)} held-out clips have {frames} frames, but the Fréchet distance needs "
            f"{MIN_CLIPS_TO_EXTRAPOLATE}; "
            "lower 'holdout_every' or 'fvd.frames', or give more videos"
        )
    return spread(held_out, count)


def distances(
    folder: StageFolder, features: np.ndarray, seed: int, settings: Mapping[str, Any], name: str = "fvd"
) -> tuple[Metric, Metric]:
    """The Fréchet distance of as many other clips, features (clips, 400), to those of a complete `reference` stage: at
    this number of clips, as `name`, and at infinitely many, as `<name>_infinity`.

    `seed` is the extrapolation's; `settings` say how the clips came to be.
    """
    real, frames = load_features(folder), folder.stage().fields_as(ReferenceFields).fvd.frames
    infinite, low, high = fvd_at_infinity(real, features, seed)
    taken = {"n": len(features), "extractor": EXTRACTOR}
    settings = {"frames": frames, **settings, "seed": seed}
    return (
        Metric(name=name, value=frechet_distance(real, features), **taken, settings=settings),
        Metric(name=f"{name}_infinity", value=infinite, **taken, settings={**settings, "low": low, "high": high}),
    )


def load_features(folder: StageFolder) -> np.ndarray:
    """(clips, 400) of a complete `reference` stage."""
    return load_file(folder.path / "features.safetensors")["features"]
