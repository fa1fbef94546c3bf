"""How many clips a video gives, and of which duration, resolution and aspect ratio. No video is opened."""

import math

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
        if (reason := why_too_thin(info.size, spec)) is not None:
            raise UserError(f"worlds: {reason}")
        width, height = clip_size(info.size, spec)
        sizes += [(frames, height, width) for frames in window_lengths(info, fps, spec)]
    return sizes


def window_lengths(info: VideoInfo, fps: float, spec: DataSpec) -> list[int]:
    """The number of frames of each clip of a video."""
    if info.frames == 1:
        return [1] if spec.images else []
    full_clips, remainder = divmod(frames_at_rate(info, fps), spec.frames)
    return [spec.frames] * full_clips + ([(remainder - 1) // 4 * 4 + 1] if remainder >= SHORTEST else [])


def clip_size(size: tuple[int, int], spec: DataSpec) -> tuple[int, int]:
    """Width and height of the clips of a video of this size: scaled down to the area budget at the same aspect ratio,
    then rounded down to the multiple. A side is 0 where `why_too_thin` gives a reason."""
    width, height = (math.floor(side) // spec.multiple * spec.multiple for side in _scaled_sides(size, spec))
    return width, height


def why_unusable(info: VideoInfo, spec: DataSpec) -> str | None:
    """Why no clip can be cut from a readable video; None where some can."""
    if (reason := why_too_thin(info.size, spec)) is not None:
        return reason
    fps = min(spec.fps, info.fps)
    if not window_lengths(info, fps, spec):
        return f"too short: {frames_at_rate(info, fps)} frames at {fps:g} fps, but a clip needs {SHORTEST}; raise 'fps'"
    return None


def why_too_thin(size: tuple[int, int], spec: DataSpec) -> str | None:
    """Why a video of this width and height gives no clips; None where it does."""
    if all(clip_size(size, spec)):
        return None
    width, height = _scaled_sides(size, spec)
    return (
        f"{size[0]}x{size[1]} shrinks to {width:.0f}x{height:.0f} within {spec.pixels} pixels, but each side needs "
        f"{spec.multiple}; raise 'pixels' or leave the file out"
    )


def _scaled_sides(size: tuple[int, int], spec: DataSpec) -> tuple[float, float]:
    """Width and height within the area budget. 1e-6 pixels allow for the rounding of the root."""
    scale = min(1.0, math.sqrt(spec.pixels / math.prod(size)))
    return size[0] * scale + 1e-6, size[1] * scale + 1e-6


def frames_at_rate(info: VideoInfo, fps: float) -> int:
    """How many frames a video has when it is read at this rate."""
    # At its own rate no frame is left out because time stamps are rounded, and one that is held counts for several.
    # Otherwise a hundredth of a frame allows for rounded time stamps.
    return round(info.duration * fps) if fps == info.fps else math.floor(info.duration * fps + 0.01)
