"""Video files in and out, through FFmpeg: write, inspect, and read clips at a chosen size and frame rate.

Pictures are uint8 (t, h, w, 3), red-green-blue. Frames are rotated and stretched as the file's
rotation tag and pixel aspect ratio say.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from av.container import InputContainer
from av.stream import Disposition
from av.video.frame import VideoFrame
from av.video.reformatter import Interpolation, VideoReformatter
from av.video.stream import VideoStream
from numpy.typing import NDArray

from scaling.core.store import replacing
from scaling.data.video_info import VideoInfo, Window

Frames = NDArray[np.uint8]  # (t, h, w, 3)

_LEAST_DECODED_SHARE = 0.9
"""Share of the declared frames that must decode. Encoders are wrong by a few frames at the ends, truncated files by
many."""

_AREA = Interpolation.AREA | Interpolation.ACCURATE_RND | Interpolation.FULL_CHR_H_INT
_BICUBIC = Interpolation.BICUBIC | Interpolation.ACCURATE_RND | Interpolation.FULL_CHR_H_INT


class UnreadableVideo(Exception):  # noqa: N818 (it describes the file and is not an error of the program)
    """A file that cannot be used as a video. Its text is the reason, without the name of the file."""


def write_video(path: Path, frames: Frames, fps: float) -> None:
    """Writes H.264 in 4:2:0; the file appears complete or not at all. The same frames always give the same bytes.

    Width and height must be even. Raises UserError if the disk is full.
    """
    _, height, width, _ = frames.shape
    assert width % 2 == height % 2 == 0, f"4:2:0 chroma needs even sides, not {width}x{height}"
    # x264's fast paths give other bytes on another processor, and even from one run to the next (5 files of 12 equal
    # runs, with one thread), unless they are switched off.
    options = {"crf": "18", "preset": "veryfast", "g": "16", "threads": "1", "x264-params": "cpu-independent=1"}
    with replacing(path) as tmp, av.open(str(tmp), "w", options={"movflags": "+faststart"}) as container:
        stream = container.add_stream("libx264", rate=Fraction(fps).limit_denominator(10_000), options=options)
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        scaler = VideoReformatter()
        for picture in frames:
            frame = VideoFrame.from_ndarray(np.ascontiguousarray(picture), format="rgb24")
            # Averaged chroma is 0.5 dB closer to the pictures of the worlds than FFmpeg's default of dropping samples.
            container.mux(stream.encode(scaler.reformat(frame, format="yuv420p", interpolation=_AREA)))
        container.mux(stream.encode())


def inspect(path: Path, images: bool = False) -> VideoInfo:
    """Decodes the whole file.

    Raises UnreadableVideo if it is not a complete video or, without `images`, if it has only one frame.
    """
    with _open(path) as (container, stream):
        times: list[Fraction] = []
        last: VideoFrame | None = None
        for frame in _decode(container, stream):
            times.append(_time(frame, len(times), stream))
            last = frame
        if last is None:
            raise UnreadableVideo("no frame of it decodes")
        fps = _rate(times, stream)
        duration = float(max(times) - min(times)) + max(1 / fps, _shown_for(last))
        _check_whole(container, stream, len(times), duration)
        if len(times) == 1 and not images:
            raise UnreadableVideo("one frame only (an image; --images or 'images: true' accepts it)")
        width, height = _displayed(last, stream)
        codec = stream.codec_context.name
    return VideoInfo(codec=codec, width=width, height=height, fps=fps, frames=len(times), duration=duration)


def read_clips(path: Path, windows: Sequence[Window], size: tuple[int, int]) -> Iterator[Frames]:
    """Decodes a file once and yields each window, (t, h, w, 3), as soon as it is complete.

    Each time takes the nearest frame; after the end, that is the last frame. Frames are scaled, with area averaging
    where they shrink, until they just cover `size` (width, height), and what is outside is cut equally from both sides.
    Windows must be in order and must not overlap. Raises UnreadableVideo if the file does not decode.
    """
    times = [time for window in windows for time in window.times()]
    assert times == sorted(times), "windows must be in order and disjoint"
    pictures = _nearest(path, times, size)
    for window in windows:
        yield np.stack([next(pictures) for _ in range(window.frames)])


def _nearest(path: Path, times: Iterable[float], size: tuple[int, int]) -> Iterator[Frames]:
    """The frame (h, w, 3) that is nearest to each of these rising times."""
    with _open(path) as (container, stream):
        decoded = _timed(container, stream)
        before = after = next(decoded, None)
        if before is None:
            raise UnreadableVideo("no frame of it decodes")
        scaler = VideoReformatter()  # one for the file: a new one for each frame starts threads each time
        shown: tuple[VideoFrame, Frames] | None = None
        for time in times:
            while after is not None and after[0] < time:
                before, after = after, next(decoded, None)
            frame = after[1] if after is not None and after[0] - time <= time - before[0] else before[1]
            if shown is None or shown[0] is not frame:
                shown = frame, _picture(frame, stream, size, scaler)
            yield shown[1]


def _timed(container: InputContainer, stream: VideoStream) -> Iterator[tuple[float, VideoFrame]]:
    """Frames with their seconds since the first one."""
    first: Fraction | None = None
    for count, frame in enumerate(_decode(container, stream)):
        time = _time(frame, count, stream)
        first = time if first is None else first
        yield float(time - first), frame


def _decode(container: InputContainer, stream: VideoStream) -> Iterator[VideoFrame]:
    """Frames in the order in which they are shown. Damaged packets are skipped; `_check_whole` judges what remains."""
    for packet in container.demux(stream):
        try:
            frames = packet.decode()
        except av.error.InvalidDataError:
            continue
        yield from frames


@contextmanager
def _open(path: Path) -> Iterator[tuple[InputContainer, VideoStream]]:
    """The container and its video stream. Every error of FFmpeg inside becomes UnreadableVideo."""
    try:
        if path.stat().st_size == 0:
            raise UnreadableVideo("empty file (0 bytes)")
        with av.open(str(path), metadata_errors="replace") as container:
            moving = [s for s in container.streams.video if not s.disposition & Disposition.attached_pic]
            if not moving:
                raise UnreadableVideo("no video in it, only sound" if container.streams.audio else "no video in it")
            if moving[0].codec_context is None:
                raise UnreadableVideo("a codec that this FFmpeg cannot decode")
            yield container, moving[0]
    except av.error.InvalidDataError:
        raise UnreadableVideo("not a video, or cut off: no valid data found") from None
    except (av.error.FFmpegError, OSError) as error:
        raise UnreadableVideo(f"cannot be read: {error.strerror or error}") from None


def _time(frame: VideoFrame, count: int, stream: VideoStream) -> Fraction:
    """Seconds at which a frame is shown, or by its number where the file has no time stamps."""
    if frame.pts is not None and frame.time_base is not None:
        return frame.pts * frame.time_base
    return count / (stream.average_rate or Fraction(25))


def _shown_for(frame: VideoFrame) -> float:
    """Duration of a frame in seconds, 0 if the file does not give it."""
    return float(frame.duration * frame.time_base) if frame.duration and frame.time_base else 0.0


def _rate(times: Sequence[Fraction], stream: VideoStream) -> float:
    """Frames per second as declared, unless the time stamps differ from that by more than one per cent."""
    declared = float(stream.average_rate or 0)
    spread = max(times) - min(times)
    measured = float((len(times) - 1) / spread) if spread else 0.0
    if measured and abs(measured - declared) > 0.01 * measured:
        return measured
    return declared or measured or 1.0


def _check_whole(container: InputContainer, stream: VideoStream, frames: int, seconds: float) -> None:
    """Raises UnreadableVideo where clearly less was decoded than the container declares.

    Where it declares both, the frames and the seconds must both be too few: an edit list hides declared frames, and at
    a variable rate a few frames may last long.
    """
    if stream.duration and stream.time_base:
        declared = float(stream.duration * stream.time_base)
    else:  # the container's duration is that of its longest stream, which may be its sound
        declared = (container.duration or 0) / av.time_base if len(container.streams) == 1 else 0.0
    shares = [decoded / total for decoded, total in ((seconds, declared), (frames, stream.frames)) if total]
    if max(shares, default=1.0) < _LEAST_DECODED_SHARE:
        raise UnreadableVideo(f"cut off or damaged: only {max(shares):.0%} of it decodes")


def _displayed(frame: VideoFrame, stream: VideoStream) -> tuple[int, int]:
    """Width and height with the pixel aspect ratio and the rotation applied."""
    aspect = stream.sample_aspect_ratio or Fraction(1)
    width = max(1, round(frame.width * aspect))
    return (frame.height, width) if frame.rotation % 180 else (width, frame.height)


def _picture(frame: VideoFrame, stream: VideoStream, size: tuple[int, int], scaler: VideoReformatter) -> Frames:
    """One frame at `size` (width, height): (h, w, 3)."""
    shown = _displayed(frame, stream)
    scale = max(size[0] / shown[0], size[1] / shown[1])
    covering = [max(side, round(shown_side * scale)) for side, shown_side in zip(size, shown, strict=True)]
    turned = frame.rotation % 180 != 0
    width, height = reversed(covering) if turned else covering
    filtering = _AREA if width < frame.width else _BICUBIC
    picture = scaler.reformat(frame, width, height, "rgb24", interpolation=filtering).to_ndarray()
    picture = np.rot90(picture, frame.rotation // 90)
    left, top = (covering[0] - size[0]) // 2, (covering[1] - size[1]) // 2
    return np.ascontiguousarray(picture[top : top + size[1], left : left + size[0]])
