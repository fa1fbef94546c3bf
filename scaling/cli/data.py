"""`scaling data make|index|check`: procedural worlds as video files, and what is in a folder of videos."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from scaling.cli.progress import count_progress
from scaling.core.specs import WorldSpec, parse_spec

if TYPE_CHECKING:
    from scaling.data.index import SkippedFile

NUMBERS = {name: field for name, field in WorldSpec.model_fields.items() if field.annotation is int}


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Adds the verb `data` and its own verbs."""
    data = subparsers.add_parser("data", help="make, index and check videos", description=__doc__)
    verbs = data.add_subparsers(dest="verb", required=True, metavar="make|index|check")

    make = _add_verb(verbs, "make", _make, "write procedural physics worlds as a folder of captioned videos")
    make.epilog = "example: scaling data make --out worlds --count 256 --width 96 --height 64"
    make.add_argument("--out", type=Path, required=True, metavar="DIR", help="folder to write; made if missing")
    for name, field in NUMBERS.items():
        make.add_argument(
            f"--{name.replace('_', '-')}",
            type=int,
            default=field.default,
            metavar="N",
            help=f"{field.description or name} (default: %(default)s)",
        )
    make.add_argument(
        "--shapes",
        type=_shape,
        nargs="+",
        default=(),
        metavar="TxHxW",
        help="sizes that the worlds take in turn, such as 17x64x64 1x48x96, in place of frames, height and width",
    )
    make.add_argument("--processes", type=int, metavar="N", help="worker processes (default: one for each core)")

    index = _add_verb(verbs, "index", _index, "decode every video of a folder and say what is there")
    index.epilog = "example: scaling data index videos --captions captions.csv --out index.json"
    _add_folder(index)
    index.add_argument("--out", type=Path, metavar="FILE", help="also write the whole index as JSON")

    check = _add_verb(verbs, "check", _check, "list the files of a folder that cannot be read, with reasons")
    check.epilog = "example: scaling data check videos"
    _add_folder(check)


def _shape(text: str) -> dict[str, int]:
    """Frames, height and width from `17x64x48`."""
    try:
        frames, height, width = map(int, text.split("x"))
    except ValueError:
        raise argparse.ArgumentTypeError(f"'{text}' is not frames, height and width, such as 17x64x48") from None
    return {"frames": frames, "height": height, "width": width}


def _add_verb(
    verbs: argparse._SubParsersAction[argparse.ArgumentParser],
    name: str,
    run: Callable[[argparse.Namespace], int],
    what: str,
) -> argparse.ArgumentParser:
    parser = verbs.add_parser(name, help=what, description=what[0].upper() + what[1:] + ".")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.set_defaults(run=run)
    return parser


def _add_folder(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("folder", type=Path, metavar="FOLDER", help="folder of videos, searched recursively")
    parser.add_argument(
        "--captions",
        type=Path,
        metavar="FILE",
        help="CSV or JSONL with 'file' and 'caption' (default: captions.csv or captions.jsonl in the folder, "
        "then the file names)",
    )
    parser.add_argument("--images", action="store_true", help="take image files and videos of one frame as well")


def _make(args: argparse.Namespace) -> int:
    from scaling.data.world_files import make_worlds

    spec = parse_spec(WorldSpec, {name: getattr(args, name) for name in WorldSpec.model_fields}, "data make")
    with count_progress("Making worlds") as progress:
        make_worlds(args.out, spec, progress, args.processes)
    if args.json:
        print(json.dumps({"folder": str(args.out), **spec.model_dump(mode="json")}))
    else:
        sizes = ", ".join(f"{size.frames} frames of {size.width}x{size.height}" for size in spec.sizes)
        print(f"{args.out}: {spec.count} videos of {sizes}, {spec.fps} fps")
    return 0


def _index(args: argparse.Namespace) -> int:
    from scaling.data.index import index_folder

    with count_progress("Decoding videos") as progress:
        index = index_folder(args.folder, args.captions, args.images, progress)
    if args.out is not None:
        index.save(args.out)
    summary = index.summary()
    if args.json:
        counts = {"manifest": index.manifest, "unmatched_captions": index.unmatched_captions}
        print(json.dumps({"folder": index.folder, **summary, **counts}))
        return 0
    print(f"{args.folder}: {summary['videos']} videos, {_length(summary['hours'])}, manifest {index.manifest}")
    for shape, count in summary["shapes"].items():
        print(f"  {shape}: {count}")
    if index.unmatched_captions:
        print(f"{index.unmatched_captions} captions name a file that is not there")
    _print_skipped(summary["skipped"])
    return 0


def _check(args: argparse.Namespace) -> int:
    """Exit code 0 also where files are unreadable: they are the result, and training skips them."""
    from scaling.data.index import examine

    with count_progress("Decoding videos") as progress:
        index = examine(args.folder, args.captions, args.images, progress)
    if args.json:
        print(json.dumps({"folder": index.folder, "readable": len(index.readable), "skipped": index.skipped}))
        return 0
    print(f"{args.folder}: {len(index.readable)} of {len(index.files)} files can be read")
    _print_skipped(index.skipped)
    return 0


def _print_skipped(skipped: list[SkippedFile]) -> None:
    for row in skipped:
        print(f"unreadable: {row['file']}: {row['reason']}")


def _length(hours: float) -> str:
    return f"{hours:.1f} hours" if hours >= 1 else f"{hours * 60:.1f} minutes"
