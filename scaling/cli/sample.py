"""`scaling sample RUN`: a video of any size and length from a trained run, a prompt and a seed; or one that goes on
from a file, leads up to it, or changes it."""

import argparse
import json
import math
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

from scaling.accounting.video_size import require_frames, require_side
from scaling.core.errors import UserError
from scaling.core.specs import EvalSpec, Solver
from scaling.core.stage import DiTFields, VAEFields

if TYPE_CHECKING:
    from scaling.core.stage import StageFolder
    from scaling.data.video import Frames

DEFAULT = EvalSpec()
FRAMES = 17
STRENGTH = 0.6
GIVEN = 5
"""Of a video: the shortest end of it that moves."""

DESCRIPTION = """Draws one video. The grid of noise sets duration, resolution and aspect ratio, also ones never trained;
one frame is an image.

--start and --end need a run that was trained with optim.conditioning_frames above 0. A FILE may have any size and
rate: it is scaled and cut to --width and --height, and resampled to the rate of the run's data. The frames of the
file in the result are the file's own; at the joint, sharpness may change by what the VAE loses."""

EXAMPLES = """examples:
  scaling sample demo/runs/dit-... --prompt "a red ball bounces under gravity" --out red.mp4
  scaling sample RUN --prompt "a red ball bounces" --start red.png --frames 33 --out animated.mp4
  scaling sample RUN --prompt "a blue ball bounces" --edit red.mp4 --strength 0.7 --out blue.mp4"""


def add_parser(subparsers: Any) -> None:
    """Adds the verb to the command line."""
    parser = subparsers.add_parser(
        "sample",
        help="a video of any size and length from a trained run, a prompt and a seed",
        description=DESCRIPTION,
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("folder", type=Path, metavar="RUN", help="folder of a finished training run")
    parser.add_argument("--prompt", required=True, metavar="TEXT")
    parser.add_argument(
        "--out", type=Path, required=True, metavar="FILE", help="an .mp4; or a .png, frames side by side"
    )
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="default: %(default)s")
    parser.add_argument(
        "--frames",
        type=int,
        metavar="N",
        help=f"of the clip that is drawn, given ones included: 1 + 4k (default: {FRAMES}; with --edit, what FILE has)",
    )
    parser.add_argument("--width", type=int, default=64, metavar="N", help="pixels (default: %(default)s)")
    parser.add_argument("--height", type=int, default=64, metavar="N", help="pixels (default: %(default)s)")

    flow = parser.add_argument_group("integration")
    flow.add_argument("--solver", choices=get_args(Solver), default=DEFAULT.solver, help="default: %(default)s")
    flow.add_argument("--steps", type=int, default=DEFAULT.sample_steps, metavar="N", help="default: %(default)s")
    flow.add_argument("--guidance", type=float, default=DEFAULT.guidance, metavar="X", help="default: %(default)s")
    flow.add_argument(
        "--guidance-interval",
        type=float,
        nargs=2,
        default=DEFAULT.guidance_interval,
        metavar=("LOW", "HIGH"),
        help="flow times between which guidance acts; 1 is noise (default: 0 1)",
    )

    pictures = parser.add_argument_group("from a file")
    file = pictures.add_mutually_exclusive_group()
    file.add_argument("--start", type=Path, metavar="FILE", help="a still to animate, or a video to go on from")
    file.add_argument("--end", type=Path, metavar="FILE", help="a video to lead up to")
    file.add_argument("--edit", type=Path, metavar="FILE", help="a still or a video to draw anew as the prompt says")
    pictures.add_argument(
        "--given",
        type=int,
        metavar="N",
        help=f"frames of FILE that the model sees: 1 + 4k (default: {GIVEN} of a video, 1 of a still)",
    )
    pictures.add_argument(
        "--strength", type=float, metavar="S", help=f"how much --edit changes, up to 1, all (default: {STRENGTH})"
    )
    parser.add_argument("--json", action="store_true", help="print the result as JSON")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Draws the video. Raises UserError where the run is not finished, or an option or a file cannot be used."""
    from scaling.core.stage import StageFolder

    folder = StageFolder(args.folder)
    if not folder.complete or folder.stage().kind != "dit":
        raise UserError(f"{args.folder}: not a finished training run; give a folder runs/dit-... that holds COMPLETE")
    _check(args)
    _check_run(args, folder)
    from scaling.data.film_strip import write_film_strip
    from scaling.data.video import write_video

    frames, fps = draw(folder, args)
    if args.out.suffix == ".png":
        write_film_strip(args.out, frames)
    else:
        write_video(args.out, frames, fps)
    shape = {"frames": len(frames), "height": frames.shape[1], "width": frames.shape[2], "fps": fps}
    print(json.dumps({"file": str(args.out), "seed": args.seed, **shape}) if args.json else args.out)
    return 0


def draw(folder: "StageFolder", args: argparse.Namespace) -> tuple["Frames", float]:
    """uint8 frames (t, h, w, 3) and their rate. What is cheap and may fail, the file, is read before the models."""
    import numpy as np

    from scaling.core.stage import DataFields
    from scaling.data.frames import read_video
    from scaling.diffusion.sampling import Sampler
    from scaling.diffusion.video_sampling import Order, TrainedRun

    fps = folder.parent("latents").parent("data").stage().fields_as(DataFields).data.fps
    file = args.start or args.end or args.edit
    video = None if file is None else read_video(file, (args.width, args.height), fps)
    frames = _frames(args, video, fps)
    how = Sampler(args.solver, args.steps, args.guidance, tuple(args.guidance_interval))
    order = Order(args.prompt, args.seed, frames, args.height, args.width, how)
    if video is None:
        return TrainedRun(folder).new(order), fps
    if args.edit:
        strength = STRENGTH if args.strength is None else args.strength
        return TrainedRun(folder).edited(order, video, strength), fps
    given = _given(args, video, frames, fps)
    if args.start:
        return np.concatenate([video, TrainedRun(folder).after(order, video, given)]), fps
    return np.concatenate([TrainedRun(folder).before(order, video, given), video]), fps


def _check(args: argparse.Namespace) -> None:
    """Raises UserError where an option by itself cannot be used, or not beside the others."""
    least = {"seed": 0, "frames": 1, "steps": 1, "width": 1, "height": 1, "given": 1}
    for name, smallest in least.items():
        value = getattr(args, name)
        if value is not None and value < smallest:
            raise UserError(f"--{name} is {value}, which is too small")
    if not 0 <= args.guidance < math.inf:
        raise UserError(f"--guidance is {args.guidance}, but must be a number from 0 on; 1 is the prompt alone")
    low, high = args.guidance_interval
    if not 0 <= low < high <= 1:
        raise UserError(f"--guidance-interval is {low} {high}, but must rise within 0 and 1")
    if args.strength is not None and not args.edit:
        raise UserError("--strength is for --edit, which is not given")
    if args.strength is not None and not 0 < args.strength <= 1:
        raise UserError(f"--strength is {args.strength}, but must be above 0 and at most 1")
    if args.given is not None and not (args.start or args.end):
        raise UserError("--given is for --start or --end, neither of which is given")
    if args.out.suffix not in (".mp4", ".png"):
        raise UserError(f"--out is {args.out}: give a name that ends in .mp4, for a video, or in .png, for a picture")


def _check_run(args: argparse.Namespace, folder: "StageFolder") -> None:
    """Raises UserError where this run's models cannot do what is asked."""
    fields, vae = folder.stage().fields_as(DiTFields), folder.parent("vae").stage().fields_as(VAEFields).vae
    unit, stride = vae.spatial_stride * fields.dit.patch, vae.temporal_stride
    for name in ("frames", "given"):
        value = getattr(args, name)
        if value is not None:
            require_frames(name, value, stride)
    for name in ("width", "height"):
        require_side(name, getattr(args, name), unit)
    if (args.start or args.end) and not fields.optim.conditioning_frames:
        raise UserError(
            f"{args.folder}: trained with optim.conditioning_frames 0, so it never saw given frames; "
            f"{'--start' if args.start else '--end'} needs a run trained with that field above 0"
        )


def _frames(args: argparse.Namespace, video: "Frames | None", fps: float) -> int:
    """How many frames to draw. Raises UserError where more of a file are asked for than it has."""
    if not args.edit:
        return args.frames or FRAMES
    assert video is not None
    frames: int = args.frames or (len(video) - 1) // 4 * 4 + 1
    if frames > len(video):
        raise UserError(f"--frames is {frames}, but {args.edit} has {len(video)} at {fps:g} fps: give at most as many")
    return frames


def _given(args: argparse.Namespace, video: "Frames", frames: int, fps: float) -> int:
    """How many frames of the file to give. Raises UserError where it has fewer, or where none would be left to draw."""
    file = args.start or args.end
    if args.end and (len(video) == 1 or args.given == 1):
        raise UserError(
            f"{file}: --end needs {GIVEN} frames of a video, because one alone has no place at a clip's end"
        )
    given: int = args.given or (1 if len(video) == 1 else GIVEN)
    if given > len(video):
        least = f"; give a longer video{'' if args.end else ', or --given 1'}"
        raise UserError(f"{file}: {len(video)} frames at {fps:g} fps, but {given} are to be given{least}")
    if given >= frames:
        raise UserError(f"--frames is {frames}, of which {given} would be given: none is left to draw; raise it")
    return given
