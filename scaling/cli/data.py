"""`scaling data make|index|check`: procedural worlds as video files, and what is in a folder of videos."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import App, Parameter
from pydantic import BeforeValidator

from scaling.cli.options import Json, PositiveFloat, PositiveInt, whole_number
from scaling.cli.printing import count_progress
from scaling.core.errors import UserError
from scaling.core.specs import DataSpec, WorldShape, WorldSpec

if TYPE_CHECKING:
    from scaling.data.index import Index

HELP = """Makes procedural worlds as video files, and says what is in a folder of videos.

examples:
  scaling data make --out worlds --count 256
  scaling data index videos
  scaling data check videos"""

app = App(name="data", help=HELP)

CLIPS = DataSpec(folder=".")
"""The clips that a sweep cuts by default."""
MOST_NAMES = 5
"""Files of one kind that are named, at most."""


@app.default
def refuse(*words: Annotated[str, Parameter(show=False)]) -> int:
    """Raises UserError: what is asked of the videos is missing or unknown."""
    unknown = f", not '{words[0]}'" if words else ""
    raise UserError(f"data needs make, index or check{unknown}; see scaling data --help")


Folder = Annotated[Path, Parameter(help="folder of videos, searched recursively")]
Captions = Annotated[
    Path | None,
    Parameter(
        help="CSV or JSONL with 'file' and 'caption', or 'file_name' and 'text' (default: captions.csv, captions.jsonl "
        "or metadata.csv in the folder, then the .txt beside a video, then its name)"
    ),
]
Images = Annotated[bool, Parameter(help="take image files and videos of one frame as well")]


def _shape(text: str) -> WorldShape:
    """Frames, height and width from a text such as 17x64x48."""
    try:
        frames, height, width = map(int, text.split("x"))
    except ValueError:
        raise ValueError("expected frames, height and width, such as 17x64x48") from None
    return WorldShape(frames=frames, height=height, width=width)


@Parameter("*")
class WorldOptions(WorldSpec):
    """The fields of a WorldSpec as options."""

    shapes: Annotated[
        tuple[Annotated[WorldShape, BeforeValidator(_shape)], ...], Parameter(n_tokens=1, consume_multiple=True)
    ] = ()
    """Sizes TxHxW that the worlds take in turn, such as 17x64x64 1x48x96; replaces frames, height and width."""


@app.command
def make(
    *,
    out: Annotated[Path, Parameter(help="folder to write; made if missing")],
    worlds: WorldOptions = WorldOptions(),
    processes: Annotated[PositiveInt | None, Parameter(help="worker processes (default: one for each core)")] = None,
    as_json: Json = False,
) -> int:
    """Writes procedural physics worlds as a folder of captioned videos.

    examples:
      scaling data make --out worlds --count 256 --width 96 --height 64
      scaling data make --out worlds --count 64 --shapes 17x64x64 1x48x96
    """
    from scaling.data.world_files import make_worlds

    spec = WorldSpec.model_validate(worlds.model_dump())
    with count_progress("Making worlds") as progress:
        make_worlds(out, spec, progress, processes)
    if as_json:
        print(json.dumps({"folder": str(out), **spec.model_dump(mode="json")}))
    else:
        sizes = ", ".join(f"{size.frames} frames of {size.width}x{size.height}" for size in spec.sizes)
        print(f"{out}: {spec.count} videos of {sizes}, {spec.fps} fps")
    return 0


@app.command
def index(
    folder: Folder,
    /,
    *,
    captions: Captions = None,
    images: Images = False,
    out: Annotated[Path | None, Parameter(help="JSON file for the index of all videos")] = None,
    as_json: Json = False,
) -> int:
    """Decodes every video of a folder and prints how many there are, how long, and of which sizes.

    examples:
      scaling data index videos
      scaling data index videos --captions captions.csv --out index.json
    """
    from scaling.data.index import index_folder

    with count_progress("Decoding videos") as progress:
        indexed = index_folder(folder, captions, images, progress)
    if out is not None:
        indexed.save(out)
    summary = indexed.summary()
    if as_json:
        print(json.dumps({"folder": indexed.folder, **summary, "manifest": indexed.manifest, **_remarks(indexed)}))
        return 0
    print(f"{folder}: {summary['videos']} videos, {_duration(summary['hours'])}, manifest {indexed.manifest}")
    for shape, count in summary["shapes"].items():
        print(f"  {shape}: {count}")
    _print_remarks(indexed)
    return 0


@app.command
def check(
    folder: Folder,
    /,
    *,
    captions: Captions = None,
    images: Images = False,
    pixels: Annotated[int, whole_number(at_least=256), Parameter(help="largest area of a clip")] = CLIPS.pixels,
    fps: Annotated[PositiveFloat, Parameter(help="frames per second of a clip")] = CLIPS.fps,
    as_json: Json = False,
) -> int:
    """Lists the files of a folder that cannot be read, or are too thin or too
    short for a clip, with reasons.

    The exit code is 0 also where there are some: they are the result, and
    training skips them.

    examples:
      scaling data check videos
      scaling data check videos --pixels 9216
    """
    from scaling.data.clips import leave_out_unusable
    from scaling.data.index import examine

    with count_progress("Decoding videos") as progress:
        examined = examine(folder, captions, images, progress)
    spec = DataSpec(folder=str(folder), images=images, pixels=pixels, fps=fps)
    usable, readable = leave_out_unusable(examined, spec), len(examined.readable)
    if as_json:
        counts = {"readable": readable, "skipped": usable.skipped}
        print(json.dumps({"folder": examined.folder, **counts, **_remarks(usable)}))
        return 0
    print(f"{folder}: {readable} of {len(examined.files)} files can be read")
    _print_remarks(usable)
    return 0


def _remarks(index: "Index") -> dict[str, Any]:
    """What a user should know of a folder besides its videos, as fields of a JSON object."""
    return {
        "copies": index.copies,
        "unmatched_captions": index.unmatched_captions,
        "captions_without_video": index.captions_without_video,
        "videos_without_caption": index.videos_without_caption,
        "other_files": index.other_files,
        "unreachable": index.unreachable,
    }


def _print_remarks(index: "Index") -> None:
    """The same in lines, and the files that are skipped."""
    if index.copies:
        pairs = [f"{copy} of {original}" for copy, original in index.copies.items()]
        print(f"copies, which stay on one side of the held-out split: {len(pairs)} ({_some(pairs)})")
    if index.captions_without_video:
        print(
            f"{index.unmatched_captions} captions name a file that is not there: {_some(index.captions_without_video)}"
        )
    if index.videos_without_caption:
        names = index.videos_without_caption
        print(
            f"without a caption, so that their names serve: {len(names)} of {len(index.files)} files ({_some(names)})"
        )
    if index.other_files:
        print(f"other files: {', '.join(f'{count} {suffix}' for suffix, count in index.other_files.items())}")
    for name, reason in index.unreachable.items():
        print(f"left out: {name}: {reason}")
    for file in index.files:
        if file.problem is not None:
            print(f"{'unreadable' if file.info is None else 'unusable'}: {file.file}: {file.problem}")


def _some(names: Sequence[str]) -> str:
    """A few of the names."""
    return ", ".join(names[:MOST_NAMES]) + (", ..." if len(names) > MOST_NAMES else "")


def _duration(hours: float) -> str:
    return f"{hours:.1f} hours" if hours >= 1 else f"{hours * 60:.1f} minutes"
