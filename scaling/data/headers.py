"""Which files of a folder training will skip, as far as their headers tell: for a plan, which decodes no video.

Not all of them: a damaged or too short video is found when it is decoded (`scaling.data.index`). A header has no
rotation, which does not matter here: a video that is too thin is so on either side.
"""

from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import av

from scaling.core.machine import usable_cores
from scaling.core.specs import DataSpec
from scaling.data.clip_shapes import why_too_thin
from scaling.data.folder_files import list_files
from scaling.data.video import best_stream, open_container


def skipped_by_header(folder: Path, spec: DataSpec) -> dict[str, str]:
    """The files that cannot be opened or are too thin for a clip, by name, each with the reason."""
    files = list_files(folder, spec.images)
    with ThreadPoolExecutor(usable_cores()) as pool:
        reasons = list(pool.map(partial(_why_skipped, spec=spec), files.candidates))
    return {name: reason for name, reason in zip(files.names, reasons, strict=True) if reason is not None}


def _why_skipped(path: Path, spec: DataSpec) -> str | None:
    try:
        with open_container(path) as container:
            stream = best_stream(container)
            if stream is None or stream.codec_context is None:
                return "no video in it"
            width, height = stream.codec_context.width, stream.codec_context.height
            width = max(1, round(width * (stream.sample_aspect_ratio or 1))) if width else 0
    except (av.FFmpegError, OSError) as error:
        return f"cannot be opened as a video: {error.strerror or error}"
    return why_too_thin((width, height), spec) if width and height else None
