"""Video files in and out, through FFmpeg: write, inspect, and read clips at a chosen size and frame rate.

Pictures are uint8 (t, h, w, 3), red-green-blue. Frames are turned, mirrored and stretched as the file's display matrix
or EXIF orientation and its pixel aspect ratio say (`scaling.data.orientation`). Their times are in
`scaling.data.timestamps`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from statistics import median
from typing import Literal, cast

import av
import numpy as np
from av.container import Flags, InputContainer
from av.stream import Disposition
from av.video.frame import VideoFrame
from av.video.reformatter import Interpolation, VideoReformatter
from av.video.stream import VideoStream
from numpy.typing import NDArray

from scaling.core.store import replacing
from scaling.data.orientation import EXIF_SUFFIXES, Orientation, orientation_of
from scaling.data.timestamps import TimestampGapError, timed
from scaling.data.video_info import VideoInfo, Window

Frames = NDArray[np.uint8]  # (t, h, w, 3)

_LEAST_DECODED_SHARE = 0.9
"""Share of the declared frames that must decode. Encoders are wrong by a few frames at the ends, truncated files by
many."""

MOST_DAMAGED_SHARE = 0.05
"""Largest share of corrupt and undecodable frames of a file that is used."""
HDR_TRANSFERS: dict[int, Literal["pq", "hlg"]] = {16: "pq", 18: "hlg"}
"""Transfer functions of high dynamic range, by FFmpeg's numbers for them (SMPTE ST 2084 and ARIB STD-B67)."""
EARLY = 0.001
"""Seconds by which a frame may be shown too early: some containers round time stamps to as much."""

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
    with replacing(path) as tmp, av.open(str(tmp.absolute()), "w", options={"movflags": "+faststart"}) as container:
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
        damage = Damage()
        for time, frame in timed(_decode(container, stream, damage), _declared_step(stream)):
            times.append(time)
            last = frame
        if last is None:
            raise UnreadableVideo("no frame of it decodes")
        fps = _rate(times, stream)
        duration = float(times[-1]) + max(1 / fps, _shown_for(last))
        _check_whole(container, stream, len(times), duration)
        damage.check(len(times))
        if len(times) == 1 and not images:
            raise UnreadableVideo("one frame only (an image; --images or 'images: true' accepts it)")
        width, height = _displayed(last, stream, orientation_of(path, last))
        codec, hdr = stream.codec_context.name, HDR_TRANSFERS.get(stream.codec_context.color_trc, "")
    if path.suffix.lower() in EXIF_SUFFIXES:
        _check_image(path)
    return VideoInfo(
        codec=codec,
        width=width,
        height=height,
        fps=fps,
        frames=len(times),
        duration=duration,
        hdr=hdr,
        interlaced=last.interlaced_frame,
    )


def read_clips(path: Path, windows: Sequence[Window], size: tuple[int, int]) -> Iterator[Frames]:
    """Decodes a file once and yields each window, (t, h, w, 3), as soon as it is complete.

    Each time takes the frame that is on the screen then; after the end, that is the last frame. Frames are scaled, with
    area averaging where they shrink, until they just cover `size` (width, height), and what is outside is cut equally
    from both sides. Windows must be in order and must not overlap. Raises UnreadableVideo if the file does not decode.
    """
    times = [time + EARLY for window in windows for time in window.times()]
    assert times == sorted(times), "windows must be in order and disjoint"
    pictures = _on_screen(path, times, size)
    for window in windows:
        yield np.stack([next(pictures) for _ in range(window.frames)])


def _on_screen(path: Path, times: Iterable[float], size: tuple[int, int]) -> Iterator[Frames]:
    """The frame (h, w, 3) that is shown at each of these rising times."""
    with _open(path) as (container, stream):
        decoded = timed(_decode(container, stream), _declared_step(stream))
        shown = following = next(decoded, None)
        if shown is None:
            raise UnreadableVideo("no frame of it decodes")
        scaler = VideoReformatter()  # one for the file: a new one for each frame starts threads each time
        orientation = orientation_of(path, shown[1])
        picture: Frames | None = None
        for time in times:
            while following is not None and following[0] <= time:
                if following is not shown:
                    shown, picture = following, None
                following = next(decoded, None)
            if picture is None:
                picture = _picture(shown[1], stream, size, scaler, orientation)
            yield picture


@dataclass
class Damage:
    """What a decoder refused or marked as wrong in a file."""

    refused_packets: int = 0
    corrupt_frames: int = 0

    def check(self, frames: int) -> None:
        """Raises UnreadableVideo where more than a few of the frames that were decoded are damaged."""
        damaged = self.refused_packets + self.corrupt_frames
        if damaged > MOST_DAMAGED_SHARE * (frames + self.refused_packets):
            raise UnreadableVideo(
                f"damaged: {self.corrupt_frames} of {frames} frames are corrupt, and {self.refused_packets} packets do "
                "not decode"
            )


def _decode(container: InputContainer, stream: VideoStream, damage: Damage | None = None) -> Iterator[VideoFrame]:
    """Frames in the order in which they are shown. Damaged packets are skipped and counted."""
    damage = damage or Damage()
    for packet in container.demux(stream):
        try:
            frames = packet.decode()
        except av.error.InvalidDataError:
            damage.refused_packets += 1
            continue
        damage.corrupt_frames += sum(frame.is_corrupt for frame in frames)
        yield from frames


@contextmanager
def _open(path: Path) -> Iterator[tuple[InputContainer, VideoStream]]:
    """The container and its video stream. Every error of FFmpeg inside becomes UnreadableVideo."""
    try:
        if path.stat().st_size == 0:
            raise UnreadableVideo("empty file (0 bytes)")
        with open_container(path) as container:
            # Where a file has no presentation time stamps, FFmpeg would invent some that do not rise.
            container.flags &= ~cast(int, Flags.gen_pts.value)
            stream = best_stream(container)
            if stream is None:
                raise UnreadableVideo("no video in it, only sound" if container.streams.audio else "no video in it")
            if stream.codec_context is None:
                raise UnreadableVideo("a codec that this FFmpeg cannot decode")
            yield container, stream
    except TimestampGapError as gap:
        raise UnreadableVideo(str(gap)) from None
    except av.error.InvalidDataError:
        raise UnreadableVideo("not a video, or cut off: no valid data found") from None
    except (av.error.FFmpegError, OSError) as error:
        raise UnreadableVideo(f"cannot be read: {error.strerror or error}") from None


def open_container(path: Path) -> InputContainer:
    """A file as FFmpeg opens it. Raises FFmpegError or OSError where it cannot be opened."""
    # The path is absolute, because FFmpeg takes what comes before a colon in a relative one for a protocol. Only files
    # are opened, because a file may be a playlist, which names addresses.
    return av.open(str(path.absolute()), metadata_errors="replace", options={"protocol_whitelist": "file"})


def _check_image(path: Path) -> None:
    """Raises UnreadableVideo where an image is cut off, which FFmpeg fills with gray without a word."""
    from PIL import Image, UnidentifiedImageError

    try:
        with Image.open(path) as image:
            image.load()
    except UnidentifiedImageError:
        return  # FFmpeg reads more kinds of images
    except OSError as error:
        raise UnreadableVideo(f"damaged: {error}") from None


def best_stream(container: InputContainer) -> VideoStream | None:
    """The video stream that FFmpeg takes for the best, if it is not a cover; else the first one that moves."""
    moving = {
        stream.index: stream for stream in container.streams.video if not stream.disposition & Disposition.attached_pic
    }
    best = container.streams.best("video")
    if best is not None and best.index in moving:
        return moving[best.index]
    return next(iter(moving.values()), None)


def _declared_step(stream: VideoStream) -> Fraction:
    """Seconds between two frames, as declared."""
    return 1 / (stream.average_rate or Fraction(25))


def _shown_for(frame: VideoFrame) -> float:
    """Duration of a frame in seconds, 0 if the file does not give it."""
    return float(frame.duration * frame.time_base) if frame.duration and frame.time_base else 0.0


def _rate(times: Sequence[Fraction], stream: VideoStream) -> float:
    """Frames per second as declared, unless the time stamps differ from that by more than one per cent: then that of
    their median distance, so that a frame that is held does not lower it."""
    declared = float(stream.average_rate or 0)
    measured = float((len(times) - 1) / (times[-1] - times[0])) if len(times) > 1 else 0.0
    if measured and abs(measured - declared) > 0.01 * measured:
        return 1 / float(median(after - before for before, after in pairwise(times)))
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


def _displayed(frame: VideoFrame, stream: VideoStream, orientation: Orientation) -> tuple[int, int]:
    """Width and height as shown, with the pixel aspect ratio applied."""
    aspect = stream.sample_aspect_ratio or Fraction(1)
    return orientation.sides(max(1, round(frame.width * aspect)), frame.height)


def _picture(
    frame: VideoFrame, stream: VideoStream, size: tuple[int, int], scaler: VideoReformatter, orientation: Orientation
) -> Frames:
    """One frame at `size` (width, height): (h, w, 3)."""
    shown = _displayed(frame, stream, orientation)
    scale = max(size[0] / shown[0], size[1] / shown[1])
    covering = [max(side, round(shown_side * scale)) for side, shown_side in zip(size, shown, strict=True)]
    width, height = orientation.sides(*covering)
    filtering = _AREA if width < frame.width else _BICUBIC
    picture = scaler.reformat(frame, width, height, "rgb24", interpolation=filtering).to_ndarray()
    picture = orientation.apply(picture)
    left, top = (covering[0] - size[0]) // 2, (covering[1] - size[1]) // 2
    return np.ascontiguousarray(picture[top : top + size[1], left : left + size[0]])
