"""`scaling fvd`: the Fréchet video distance of two folders of videos."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter

from scaling.cli.options import Json, NonNegativeInt, PositiveFloat, whole_number
from scaling.cli.printing import count_progress, print_note
from scaling.core.errors import UserError

if TYPE_CHECKING:
    import numpy as np

    from scaling.data.clips import Clip

FEWEST_FRAMES = 9
"""`scaling.metrics.i3d.MIN_FRAMES`, whose module imports torch."""
FEWEST_CLIPS = 2
"""Of which there is a covariance."""


def run(
    real: Annotated[Path, Parameter(help="folder of real videos, searched recursively")],
    fake: Annotated[Path, Parameter(help="folder of generated videos, searched recursively")],
    /,
    *,
    frames: Annotated[int, whole_number(at_least=FEWEST_FRAMES), Parameter(help="frames in a clip")] = 16,
    clips: Annotated[
        int | None,
        whole_number(at_least=FEWEST_CLIPS),
        Parameter(help="clips on each side (default: as many as both have)"),
    ] = None,
    fps: Annotated[
        PositiveFloat | None, Parameter(help="resample faster videos to this rate (default: each video's own rate)")
    ] = None,
    seed: Annotated[NonNegativeInt, Parameter(help="seed of the choice of clips and of the interval")] = 0,
    as_json: Json = False,
) -> int:
    """Compares the clips of two folders by their I3D features.

    The distance has a bias of about 1/n, so both sides have the same number of
    clips, and only distances of equal numbers compare. The value at infinitely
    many clips is extrapolated, with a 95 % interval.

    examples:
      scaling fvd real/ samples/
      scaling fvd real/ samples/ --clips 256 --json
    """
    from scaling.metrics.folders import choose, sizes
    from scaling.metrics.fvd import MIN_CLIPS_TO_EXTRAPOLATE, frechet_distance, fvd_at_infinity
    from scaling.metrics.i3d import EXTRACTOR

    folders = {"real": real, "fake": fake}
    all_clips = {side: _clips(side, folder, frames, fps) for side, folder in folders.items()}
    count = _count(folders, {side: len(side_clips) for side, side_clips in all_clips.items()}, frames, clips)
    chosen = {side: choose(side_clips, count, seed) for side, side_clips in all_clips.items()}
    real_features, fake_features = _features(chosen)
    result: dict[str, Any] = {
        "fvd": frechet_distance(real_features, fake_features),
        "extractor": EXTRACTOR,
        "clips": count,
        "frames": frames,
        "fps": {side: sorted({round(clip.fps, 3) for clip in side_clips}) for side, side_clips in chosen.items()},
        "size": {side: sizes(side_clips) for side, side_clips in chosen.items()},
        "seed": seed,
        "at_infinity": None,
    }
    if count >= MIN_CLIPS_TO_EXTRAPOLATE:
        result["at_infinity"] = fvd_at_infinity(real_features, fake_features, seed)._asdict()
    print(json.dumps(result) if as_json else _result_text(result))
    return 0


def _clips(side: str, folder: Path, frames: int, fps: float | None) -> "list[Clip]":
    """All clips of one side's folder."""
    from scaling.data.index import index_folder
    from scaling.metrics.folders import metric_clips

    with count_progress(f"Indexing {side}") as progress:
        index = index_folder(folder, progress=progress)
    for skipped in index.skipped:
        print_note(f"unreadable, left out: {skipped['file']}: {skipped['reason']}")
    return metric_clips(index, frames, fps)


def _count(folders: dict[str, Path], available: dict[str, int], frames: int, requested: int | None) -> int:
    """Clips on each side: as many as are asked for, or as the smaller side has, which is then noted on stderr."""
    if requested is not None:
        for side, count in available.items():
            if count < requested:
                raise UserError(f"{folders[side]}: has {count} clips of {frames} frames, --clips asks for {requested}")
        return requested
    count = min(available.values())
    if len(set(available.values())) > 1:
        print_note(f"{available['real']} real and {available['fake']} fake clips: {count} of each are compared")
    if count < FEWEST_CLIPS:
        smaller = min(folders, key=lambda side: available[side])
        raise UserError(f"{folders[smaller]}: has one clip, but a distance needs at least {FEWEST_CLIPS}")
    return count


def _features(clips: "dict[str, list[Clip]]") -> "list[np.ndarray]":
    """Features (n, 400) of each side's clips."""
    from scaling.metrics.folders import clip_features
    from scaling.metrics.i3d import I3D

    network, features = I3D(), []
    for side, side_clips in clips.items():
        with count_progress(f"Features of {side}") as progress:
            features.append(clip_features(side_clips, network, progress))
    return features


def _result_text(result: dict[str, Any]) -> str:
    rates = {side: "/".join(f"{rate:g}" for rate in rates) for side, rates in result["fps"].items()}
    videos = [f"{side} {result['size'][side]} at {rates[side]} fps" for side in rates]
    infinity = result["at_infinity"]
    extrapolated = (
        "{value:z.2f}, 95 % interval {low:z.2f} to {high:z.2f}".format(**infinity)
        if infinity
        else "too few clips to extrapolate"
    )
    return (
        f"FVD {result['fvd']:.2f}\n"
        f"  features: {result['extractor']}, {result['clips']} clips on each side, {result['frames']} frames each\n"
        f"  videos: {', '.join(videos)}\n"
        f"  at infinitely many clips: {extrapolated}"
    )
