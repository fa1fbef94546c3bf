"""How many clips a video gives, and of which duration, resolution and aspect ratio. No video is opened."""

import math
from pathlib import Path

from scaling.accounting.geometry import Grid
from scaling.core.errors import UserError
from scaling.core.specs import DataSpec, WorldSpec
from scaling.data.video_info import VideoInfo

SHORTEST = 5
"""Frames of the shortest clip of a moving video: 1 + 4, which is two latent frames."""


def world_clips(worlds: WorldSpec, spec: DataSpec) -> list[Grid]:
    """(frames, height, width) of the clips that `scaling.data.clips` cuts out of one world of each size."""
    fps, sizes = min(spec.fps, worlds.fps), []
    for world in worlds.sizes:
        seconds = world.frames / worlds.fps
        info = VideoInfo(
            codec="h264", width=world.width, height=world.height, fps=worlds.fps, frames=world.frames, duration=seconds
        )
        width, height = clip_size(Path("worlds"), info, spec)
        sizes += [(frames, height, width) for frames in window_lengths(info, fps, spec)]
    return sizes


def window_lengths(info: VideoInfo, fps: float, spec: DataSpec) -> list[int]:
    """The number of frames of each clip of a video."""
    if info.frames == 1:
        return [1] if spec.images else []
    full_clips, remainder = divmod(frames_at_rate(info, fps), spec.frames)
    return [spec.frames] * full_clips + ([(remainder - 1) // 4 * 4 + 1] if remainder >= SHORTEST else [])


def clip_size(path: Path, info: VideoInfo, spec: DataSpec) -> tuple[int, int]:
    """Width and height: scaled down to the area budget at the same aspect ratio, then rounded down to the multiple."""
    scale = min(1.0, math.sqrt(spec.pixels / (info.width * info.height)))
    sides = info.width * scale + 1e-6, info.height * scale + 1e-6  # 1e-6 pixels allow for the rounding of the root
    width, height = (math.floor(side) // spec.multiple * spec.multiple for side in sides)
    if not (width and height):
        raise UserError(
            f"{path}: {info.width}x{info.height} shrinks to {sides[0]:.0f}x{sides[1]:.0f} within "
            f"{spec.pixels} pixels, but each side needs {spec.multiple}; raise 'pixels' or leave the file out"
        )
    return width, height


def frames_at_rate(info: VideoInfo, fps: float) -> int:
    """How many frames a video has when it is read at this rate."""
    # At its own rate no frame is left out because time stamps are rounded, and one that is held counts for several.
    # Otherwise a hundredth of a frame allows for rounded time stamps.
    return round(info.duration * fps) if fps == info.fps else math.floor(info.duration * fps + 0.01)
