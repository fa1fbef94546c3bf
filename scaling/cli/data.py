"""`scaling data make|index|check`: procedural worlds as video files, and what is in a folder of videos."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import App, Parameter
from pydantic import BeforeValidator

from scaling.cli.options import Json, PositiveInt
from scaling.cli.printing import count_progress
from scaling.core.errors import UserError
from scaling.core.specs import WorldShape, WorldSpec

if TYPE_CHECKING:
    from scaling.data.index import SkippedFile

HELP = """Makes procedural worlds as video files, and says what is in a folder of videos.

examples:
  scaling data make --out worlds --count 256
  scaling data index videos
  scaling data check videos"""

app = App(name="data", help=HELP)


@app.default
def refuse(*words: Annotated[str, Parameter(show=False)]) -> int:
    """Raises UserError: what is asked of the videos is missing or unknown."""
    unknown = f", not '{words[0]}'" if words else ""
    raise UserError(f"data needs make, index or check{unknown}; see scaling data --help")


Folder = Annotated[Path, Parameter(help="folder of videos, searched recursively")]
Captions = Annotated[
    Path | None,
    Parameter(
        help="CSV or JSONL with 'file' and 'caption' (default: captions.csv or captions.jsonl in the folder, then the "
        "file names)"
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
        counts = {"manifest": indexed.manifest, "unmatched_captions": indexed.unmatched_captions}
        print(json.dumps({"folder": indexed.folder, **summary, **counts}))
        return 0
    print(f"{folder}: {summary['videos']} videos, {_duration(summary['hours'])}, manifest {indexed.manifest}")
    for shape, count in summary["shapes"].items():
        print(f"  {shape}: {count}")
    if indexed.unmatched_captions:
        print(f"{indexed.unmatched_captions} captions name a file that is not there")
    _print_skipped(summary["skipped"])
    return 0


@app.command
def check(folder: Folder, /, *, captions: Captions = None, images: Images = False, as_json: Json = False) -> int:
    """Lists the files of a folder that cannot be read, with reasons.

    The exit code is 0 also where there are some: they are the result, and
    training skips them.

    examples:
      scaling data check videos
    """
    from scaling.data.index import examine

    with count_progress("Decoding videos") as progress:
        examined = examine(folder, captions, images, progress)
    if as_json:
        print(json.dumps({"folder": examined.folder, "readable": len(examined.readable), "skipped": examined.skipped}))
        return 0
    print(f"{folder}: {len(examined.readable)} of {len(examined.files)} files can be read")
    _print_skipped(examined.skipped)
    return 0


def _print_skipped(skipped: "list[SkippedFile]") -> None:
    for row in skipped:
        print(f"unreadable: {row['file']}: {row['reason']}")


def _duration(hours: float) -> str:
    return f"{hours:.1f} hours" if hours >= 1 else f"{hours * 60:.1f} minutes"
