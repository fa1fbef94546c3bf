"""The distance of generated or reconstructed clips to the real ones of a `reference` stage, as metrics of a record."""

from collections.abc import Mapping

from safetensors.numpy import load_file

from scaling.core.records import Metric, Setting
from scaling.core.stage_fields import ReferenceFields
from scaling.core.stage_folder import StageFolder
from scaling.metrics.fvd import Features, frechet_distance, fvd_at_infinity
from scaling.metrics.i3d import EXTRACTOR


def distance_to_reference(
    reference: StageFolder, features: Features, seed: int, settings: Mapping[str, Setting], name: str = "fvd"
) -> tuple[Metric, Metric]:
    """The Fréchet distance of the features (clips, 400) of as many other clips to those of a complete `reference`
    stage: at this number of clips, as the metric `name`, and at infinitely many, as `<name>_infinity`.

    `seed` is the seed of the extrapolation. `settings` describe how the other clips were made.
    """
    real = load_file(reference.path / "features.safetensors")["features"]
    frames = reference.stage().fields_as(ReferenceFields).fvd.frames
    infinite, low, high = fvd_at_infinity(real, features, seed)
    settings = {"frames": frames, **settings, "seed": seed}
    return (
        Metric(
            name=name,
            value=frechet_distance(real, features),
            n=len(features),
            extractor=EXTRACTOR,
            settings=settings,
        ),
        Metric(
            name=f"{name}_infinity",
            value=infinite,
            n=len(features),
            extractor=EXTRACTOR,
            settings={**settings, "low": low, "high": high},
        ),
    )
