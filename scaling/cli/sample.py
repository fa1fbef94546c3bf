"""`scaling sample RUN`: a video of any size and length from a trained run, a prompt and a seed; or one that continues a
file, leads up to it, or changes it."""

import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Group, Parameter
from cyclopts.validators import LimitedChoice, Number

from scaling.accounting.video_size import require_frames, require_side
from scaling.cli.options import Json, NonNegativeInt, PositiveInt
from scaling.core.errors import UserError
from scaling.core.specs import EvalSpec, Solver

if TYPE_CHECKING:
    from scaling.core.stage_folder import StageFolder
    from scaling.data.video import Frames

DEFAULT = EvalSpec()
FRAMES = 17
STRENGTH = 0.6
CONDITIONING_FRAMES = 5
"""Of a video: the shortest end of it that moves."""

INTEGRATION = Group("Integration")
FROM_FILE = Group("From a file: --start, --end or --edit", validator=LimitedChoice(0, 1))
WITH_FILE = Group("With --start, --end or --edit")


@Parameter("*")
@dataclass(frozen=True)
class SampleOptions:
    """What to sample, and how."""

    prompt: Annotated[str, Parameter(help="text that describes the video")]
    out: Annotated[Path, Parameter(help="an .mp4; or a .png with the frames side by side")]
    seed: Annotated[NonNegativeInt, Parameter(help="seed of the noise")] = 0
    frames: Annotated[
        PositiveInt | None,
        Parameter(help="frames that the model samples, conditioning frames included: 1 + 4k (default: "
                  f"{FRAMES}; with --edit, as many as FILE has)"),
    ] = None  # fmt: skip
    width: Annotated[PositiveInt, Parameter(help="pixels")] = 64
    height: Annotated[PositiveInt, Parameter(help="pixels")] = 64
    solver: Annotated[Solver, Parameter(group=INTEGRATION)] = DEFAULT.solver
    steps: Annotated[PositiveInt, Parameter(group=INTEGRATION)] = DEFAULT.sample_steps
    guidance: Annotated[
        float,
        Parameter(
            group=INTEGRATION, validator=Number(gte=0, lt=math.inf), help="1 follows the prompt without guidance"
        ),
    ] = DEFAULT.guidance
    guidance_interval: Annotated[
        tuple[float, float],
        Parameter(group=INTEGRATION, validator=Number(gte=0, lte=1), help="LOW HIGH: the flow times between which "
                  "guidance acts; 1 is noise"),
    ] = DEFAULT.guidance_interval  # fmt: skip
    start: Annotated[Path | None, Parameter(group=FROM_FILE, help="a still to animate, or a video to continue")] = None
    end: Annotated[Path | None, Parameter(group=FROM_FILE, help="a video to lead up to")] = None
    edit: Annotated[Path | None, Parameter(group=FROM_FILE, help="a still or a video to change as the prompt says")] = (
        None
    )
    conditioning_frames: Annotated[
        PositiveInt | None,
        Parameter(group=WITH_FILE, help="frames of the file that the model sees: 1 + 4k (default: "
                  f"{CONDITIONING_FRAMES} of a video, 1 of a still)"),
    ] = None  # fmt: skip
    strength: Annotated[
        float | None,
        Parameter(group=WITH_FILE, validator=Number(gt=0, lte=1), help="how much --edit changes; 1 changes everything "
                  f"(default: {STRENGTH})"),
    ] = None  # fmt: skip

    @property
    def file(self) -> Path | None:
        return self.start or self.end or self.edit


def run(
    folder: Annotated[Path, Parameter(help="folder of a finished training run")],
    /,
    *,
    options: SampleOptions,
    as_json: Json = False,
) -> int:
    """Samples one video. Duration, resolution and aspect ratio may be others than in training; one frame is an image.

    --start and --end need a run that was trained with the field
    optim.conditioning_frames above 0. The file may have any size and rate: it is scaled
    and cut to --width and --height, and resampled to the rate of the run's data.
    The frames of the file in the result are the file's own. Where they meet
    sampled frames, sharpness may change, because the VAE loses detail.

    examples:
      scaling sample demo/runs/dit-... --prompt "a red ball" --out red.mp4
      scaling sample FOLDER --prompt "a red ball" --start red.png --out a.mp4
      scaling sample FOLDER --prompt "a blue ball" --edit red.mp4 --out blue.mp4
    """
    from scaling.core.stage_folder import StageFolder

    trained = StageFolder(folder)
    if not trained.complete or trained.stage().kind != "dit":
        raise UserError(f"{folder}: not a finished training run; give a folder runs/dit-... that holds COMPLETE")
    _check(options)
    _check_run(options, trained)
    from scaling.data.film_strip import write_film_strip
    from scaling.data.video import write_video

    frames, fps = _sample(trained, options)
    if options.out.suffix == ".png":
        write_film_strip(options.out, frames)
    else:
        write_video(options.out, frames, fps)
    shape = {"frames": len(frames), "height": frames.shape[1], "width": frames.shape[2], "fps": fps}
    print(json.dumps({"file": str(options.out), "seed": options.seed, **shape}) if as_json else options.out)
    return 0


def _sample(trained: "StageFolder", options: SampleOptions) -> tuple["Frames", float]:
    """uint8 frames (t, h, w, 3) and their rate. The file, which is cheap to read and may fail, comes before the
    models."""
    import numpy as np

    from scaling.core.stage_fields import DataFields
    from scaling.data.frames import read_video
    from scaling.diffusion.sampling import Sampler
    from scaling.diffusion.video_sampling import SampleRequest, VideoSampler

    fps = trained.parent("latents").parent("data").stage().fields_as(DataFields).data.fps
    video = None if options.file is None else read_video(options.file, (options.width, options.height), fps)
    frames = _num_frames(options, video, fps)
    sampler = Sampler(options.solver, options.steps, options.guidance, options.guidance_interval)
    request = SampleRequest(options.prompt, options.seed, frames, options.height, options.width, sampler)
    if video is None:
        return VideoSampler(trained).new(request), fps
    if options.edit:
        return VideoSampler(trained).edited(request, video, options.strength or STRENGTH), fps
    conditioning = _num_conditioning_frames(options, video, frames, fps)
    if options.start:
        return np.concatenate([video, VideoSampler(trained).after(request, video, conditioning)]), fps
    return np.concatenate([VideoSampler(trained).before(request, video, conditioning), video]), fps


def _check(options: SampleOptions) -> None:
    """Raises UserError where options do not go together."""
    low, high = options.guidance_interval
    if not low < high:
        raise UserError(f"--guidance-interval is {low:g} {high:g}, but must rise within 0 and 1")
    if options.strength is not None and not options.edit:
        raise UserError("--strength is for --edit, which is not given")
    if options.conditioning_frames is not None and not (options.start or options.end):
        raise UserError("--conditioning-frames is for --start or --end, neither of which is given")
    if options.out.suffix not in (".mp4", ".png"):
        raise UserError(
            f"--out is {options.out}: give a name that ends in .mp4, for a video, or in .png, for a picture"
        )


def _check_run(options: SampleOptions, trained: "StageFolder") -> None:
    """Raises UserError where the run's models cannot sample what is asked for."""
    from scaling.core.stage_fields import DiTFields, VAEFields

    fields, vae = trained.stage().fields_as(DiTFields), trained.parent("vae").stage().fields_as(VAEFields).vae
    unit, stride = vae.spatial_stride * fields.dit.patch, vae.temporal_stride
    if options.frames is not None:
        require_frames("frames", options.frames, stride)
    if options.conditioning_frames is not None:
        require_frames("conditioning-frames", options.conditioning_frames, stride)
    require_side("width", options.width, unit)
    require_side("height", options.height, unit)
    if (options.start or options.end) and not fields.optim.conditioning_frames:
        raise UserError(
            f"{trained.path}: was trained without conditioning frames, with optim.conditioning_frames 0; "
            f"{'--start' if options.start else '--end'} needs a run trained with that field above 0"
        )


def _num_frames(options: SampleOptions, video: "Frames | None", fps: float) -> int:
    """How many frames to sample. Raises UserError where they are more than the file to edit has."""
    if not options.edit or video is None:
        return options.frames or FRAMES
    frames = options.frames or (len(video) - 1) // 4 * 4 + 1
    if frames > len(video):
        raise UserError(
            f"--frames is {frames}, but {options.edit} has {len(video)} at {fps:g} fps: give at most as many"
        )
    return frames


def _num_conditioning_frames(options: SampleOptions, video: "Frames", frames: int, fps: float) -> int:
    """How many frames of the file the model sees. Raises UserError where the file has fewer, or where none would remain
    to sample."""
    if options.end and (len(video) == 1 or options.conditioning_frames == 1):
        raise UserError(
            f"{options.file}: --end needs {CONDITIONING_FRAMES} frames of a video, because the latent of a single "
            "frame cannot stand at the end of a clip"
        )
    count = options.conditioning_frames or (1 if len(video) == 1 else CONDITIONING_FRAMES)
    if count > len(video):
        way_out = f"give a longer video{'' if options.end else ', or --conditioning-frames 1'}"
        raise UserError(
            f"{options.file}: has {len(video)} frames at {fps:g} fps, but {count} conditioning frames are needed; "
            f"{way_out}"
        )
    if count >= frames:
        raise UserError(
            f"--frames is {frames}, of which {count} are conditioning frames: none is left to sample; raise it"
        )
    return count
