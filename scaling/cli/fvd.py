"""`scaling fvd`: the Fréchet video distance of two folders of videos."""

import argparse
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from scaling.cli.progress import count_progress
from scaling.core.errors import UserError

if TYPE_CHECKING:
    import numpy as np

    from scaling.data.clips import Clip

SIDES = ("real", "fake")

DESCRIPTION = """Compares the clips of two folders by their I3D features.

The distance has a bias of about 1/n, so both sides have the same number of clips, and only distances of equal numbers
compare. The value at infinitely many clips is extrapolated, with a 95 % interval."""

EXAMPLES = """examples:
  scaling fvd real/ samples/
  scaling fvd real/ samples/ --clips 256 --json"""


def add_parser(subparsers: Any) -> None:
    """Adds the verb `fvd`."""
    parser = subparsers.add_parser(
        "fvd",
        help="Fréchet video distance of two folders of videos",
        description=DESCRIPTION,
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("real", type=Path, metavar="REAL", help="folder of real videos, searched recursively")
    parser.add_argument("fake", type=Path, metavar="FAKE", help="folder of generated videos")
    parser.add_argument("--frames", type=int, default=16, metavar="N", help="frames in a clip (default: %(default)s)")
    parser.add_argument("--clips", type=int, metavar="N", help="clips on each side (default: as many as both have)")
    parser.add_argument(
        "--fps", type=float, metavar="F", help="resample faster videos to this rate (default: each its own)"
    )
    parser.add_argument("--seed", type=int, default=0, help="of the choice of clips and of the interval (default: 0)")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Measures and prints. Raises UserError where a folder or an option cannot be used."""
    from scaling.metrics.folders import choose, sizes
    from scaling.metrics.fvd import MIN_CLIPS_TO_EXTRAPOLATE, frechet_distance, fvd_at_infinity
    from scaling.metrics.i3d import EXTRACTOR

    _check(args)
    found = {side: _clips(args, side) for side in SIDES}
    count = _count(args, {side: len(clips) for side, clips in found.items()})
    chosen = {side: choose(clips, count, args.seed) for side, clips in found.items()}
    real, fake = _features(chosen)
    result: dict[str, Any] = {
        "fvd": frechet_distance(real, fake),
        "extractor": EXTRACTOR,
        "clips": count,
        "frames": args.frames,
        "fps": {side: sorted({round(clip.fps, 3) for clip in clips}) for side, clips in chosen.items()},
        "size": {side: sizes(clips) for side, clips in chosen.items()},
        "seed": args.seed,
        "at_infinity": None,
    }
    if count >= MIN_CLIPS_TO_EXTRAPOLATE:
        result["at_infinity"] = fvd_at_infinity(real, fake, args.seed)._asdict()
    print(json.dumps(result) if args.json else _words(result))
    return 0


def _check(args: argparse.Namespace) -> None:
    """Raises UserError for an option that cannot be used, before anything is read."""
    from scaling.metrics.i3d import EXTRACTOR, MIN_FRAMES

    if args.frames < MIN_FRAMES:
        raise UserError(f"--frames is {args.frames}, but {EXTRACTOR} needs at least {MIN_FRAMES}")
    if args.clips is not None and args.clips < 2:
        raise UserError(f"--clips is {args.clips}, but a distance needs at least 2")
    if args.fps is not None and args.fps <= 0:
        raise UserError(f"--fps is {args.fps:g}, but must be above 0")
    if args.seed < 0:
        raise UserError(f"--seed is {args.seed}, but must not be negative")


def _clips(args: argparse.Namespace, side: str) -> "list[Clip]":
    """All clips of one side's folder."""
    from scaling.data.index import index_folder
    from scaling.metrics.folders import metric_clips

    with count_progress(f"Indexing {side}") as progress:
        index = index_folder(getattr(args, side), progress=progress)
    for skipped in index.skipped:
        print(f"unreadable, left out: {skipped['file']}: {skipped['reason']}", file=sys.stderr)
    return metric_clips(index, args.frames, args.fps)


def _count(args: argparse.Namespace, found: dict[str, int]) -> int:
    """Clips on each side. Says on standard error where some are left out for the other side's sake."""
    if args.clips is not None:
        for side, count in found.items():
            if count < args.clips:
                raise UserError(
                    f"{getattr(args, side)}: has {count} clips of {args.frames} frames, --clips asks for {args.clips}"
                )
        return int(args.clips)
    count = min(found.values())
    if len(set(found.values())) > 1:
        print(f"{found['real']} real and {found['fake']} fake clips: {count} of each are compared", file=sys.stderr)
    if count < 2:
        raise UserError(f"{min(found, key=lambda side: found[side])}: has one clip, but a distance needs at least 2")
    return count


def _features(clips: "dict[str, list[Clip]]") -> "list[np.ndarray]":
    """Features (n, 400) of the two sides."""
    from scaling.metrics.folders import clip_features
    from scaling.metrics.i3d import I3D

    network, features = I3D(), []
    for side in SIDES:
        with count_progress(f"Features of {side}") as progress:
            features.append(clip_features(clips[side], network, progress))
    return features


def _words(result: dict[str, Any]) -> str:
    rates = {side: "/".join(f"{rate:g}" for rate in rates) for side, rates in result["fps"].items()}
    shown = [f"{side} {result['size'][side]} at {rates[side]} fps" for side in SIDES]
    infinity = result["at_infinity"]
    extrapolated = (
        "{value:z.2f}, 95 % interval {low:z.2f} to {high:z.2f}".format(**infinity)
        if infinity
        else "too few clips to say"
    )
    return (
        f"FVD {result['fvd']:.2f}\n"
        f"  features: {result['extractor']}, {result['clips']} clips on each side, {result['frames']} frames each\n"
        f"  videos: {', '.join(shown)}\n"
        f"  at infinitely many clips: {extrapolated}"
    )
