"""`scaling sample RUN`: a video of any size and length from a trained run, a prompt and a seed."""

import argparse
import json
from pathlib import Path
from typing import Any

from scaling.errors import UserError


def add_parser(subparsers: Any) -> None:
    """Adds the verb to the command line."""
    parser = subparsers.add_parser(
        "sample",
        help="a video of any size and length from a trained run, a prompt and a seed",
        description="Draws one video. The grid of noise sets duration, resolution and aspect ratio, also ones never "
        "trained; one frame is an image.",
        epilog='example: scaling sample demo/runs/dit-... --prompt "a red ball bounces under gravity" --out red.mp4',
    )
    parser.add_argument("folder", type=Path, metavar="RUN", help="folder of a finished training run")
    parser.add_argument("--prompt", required=True, metavar="TEXT")
    parser.add_argument("--out", type=Path, required=True, metavar="FILE", help="video file to write")
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="default: %(default)s")
    parser.add_argument("--frames", type=int, default=17, metavar="N", help="1 + 4k (default: %(default)s)")
    parser.add_argument("--width", type=int, default=64, metavar="N", help="pixels (default: %(default)s)")
    parser.add_argument("--height", type=int, default=64, metavar="N", help="pixels (default: %(default)s)")
    parser.add_argument("--steps", type=int, default=20, metavar="N", help="Euler steps (default: %(default)s)")
    parser.add_argument("--guidance", type=float, default=2.0, metavar="X", help="default: %(default)s")
    parser.add_argument("--json", action="store_true", help="print the result as JSON")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Draws the video. Raises UserError where the run is not finished or a number cannot be used."""
    from scaling.stage import StageFolder

    folder = StageFolder(args.folder)
    if not folder.complete or folder.stage().kind != "dit":
        raise UserError(f"{args.folder}: not a finished training run; give a folder runs/dit-... that holds COMPLETE")
    for name in ("seed", "frames", "steps", "width", "height"):
        if getattr(args, name) < (name != "seed"):
            raise UserError(f"--{name} is {getattr(args, name)}, which is too small")
    if args.out.suffix != ".mp4":
        raise UserError(f"--out is {args.out}, but the video is an MP4: give a name that ends in .mp4")
    from scaling.data.video import write_video

    frames, fps = draw(folder, args)
    write_video(args.out, frames, fps)
    shape = {"frames": len(frames), "height": frames.shape[1], "width": frames.shape[2], "fps": fps}
    print(json.dumps({"video": str(args.out), "seed": args.seed, **shape}) if args.json else args.out)
    return 0


def draw(folder: Any, args: argparse.Namespace) -> tuple[Any, float]:
    """uint8 frames (t, h, w, 3) and their rate."""
    from scaling.flow import Stream
    from scaling.frozen import decode, load_dit, load_vae
    from scaling.geometry import latent_size
    from scaling.latents import LatentSet
    from scaling.sampling import sample
    from scaling.stages.data import load_index
    from scaling.text import TextEncoder

    latents, vae = folder.parent("latents"), load_vae(folder.parent("vae"))
    patch, words = folder.stage().parsed().dit.patch, latents.stage().parsed().text.max_tokens
    unit, stride = vae.spec.spatial_stride * patch, vae.spec.temporal_stride
    if args.width % unit or args.height % unit or (args.frames - 1) % stride:
        raise UserError(
            f"{args.frames} frames of {args.width}x{args.height}: sides must be multiples of {unit}, "
            f"and frames 1 + {stride}k"
        )
    data = LatentSet(latents.path, held_out=True, patch=patch)
    caption = TextEncoder().encode([args.prompt], words)
    shape = latent_size(args.frames, args.height, args.width, vae.spec)
    noise = (args.seed, Stream.GRID)
    drawn = sample(load_dit(folder, data), caption, shape, [noise], steps=args.steps, guidance=args.guidance)
    return decode(vae, drawn * data.std + data.mean)[0], load_index(latents.parent("data"))[1].fps
