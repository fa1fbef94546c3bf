"""The frames of clips, and of whole videos, decoded from their files. How a file is decoded is in
`scaling.data.video`."""

from collections.abc import Iterator, Sequence
from itertools import groupby
from pathlib import Path

from scaling.core.errors import UserError
from scaling.data.clip_shapes import frames_at_rate
from scaling.data.clips import Clip
from scaling.data.video import Frames, UnreadableVideo, inspect, read_clips
from scaling.data.video_info import Window


def read_frames(clips: Sequence[Clip]) -> Iterator[tuple[Clip, Frames]]:
    """Each clip with its frames, (t, h, w, 3). A file is decoded once, so clips of one file must follow each other.

    Raises UserError if a file has been replaced since it was indexed, or no longer decodes.
    """
    for path, group in groupby(clips, key=lambda clip: clip.path):
        clips_of_file = list(group)
        size = clips_of_file[0].width, clips_of_file[0].height
        windows = [clip.window for clip in clips_of_file]
        if (version := clips_of_file[0].version) is not None:
            version.require(path)
        try:
            yield from zip(clips_of_file, read_clips(path, windows, size), strict=True)
        except UnreadableVideo as problem:
            raise UserError(f"{path}: {problem}; it was readable when indexed: index the folder again") from None


def read_video(path: Path, size: tuple[int, int], fps: float) -> Frames:
    """A whole file, (t, h, w, 3), scaled and cut to `size` (width, height) as clips are, at this rate, which may be
    above its own. A still image is one frame. All of it is in memory.

    Raises UserError where the file is missing or cannot be read.
    """
    try:
        info = inspect(path, images=True)
        frames = 1 if info.frames == 1 else max(1, frames_at_rate(info, fps))
        return next(read_clips(path, [Window(0.0, frames, fps)], size))
    except UnreadableVideo as problem:
        raise UserError(f"{path}: {problem}") from None
