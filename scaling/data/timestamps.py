"""When each frame of a video is shown: seconds from time stamps that may be missing, repeated, wild or falling.

Frames come in the order in which they are shown, so their times rise. Whatever contradicts that is replaced by the
times of the frames around it.
"""

from collections.abc import Iterable, Iterator
from fractions import Fraction

from av.video.frame import VideoFrame

LONGEST_HOLD = 60
"""Seconds. A frame that would be shown longer is not held: its file was joined from two, or a time stamp is wrong."""


class TimestampGapError(Exception):
    """Two neighboring frames are too far from each other. The text is the reason, without the name of the file."""


def timed(frames: Iterable[VideoFrame], step: Fraction) -> Iterator[tuple[Fraction, VideoFrame]]:
    """Each frame with its seconds since the first one, which rise strictly. `step` is the distance of two frames in
    seconds as long as no time stamps give it.

    Raises TimestampGapError where a frame would be shown for more than LONGEST_HOLD.
    """
    clock = Clock(step)
    waiting: VideoFrame | None = None
    for frame in frames:
        if waiting is not None:
            yield clock.time(shown_at(waiting), decoded_at(waiting), shown_at(frame)), waiting
        waiting = frame
    if waiting is not None:
        yield clock.time(shown_at(waiting), decoded_at(waiting), None), waiting


class Clock:
    """Turns the time stamps of frames that follow each other into rising times."""

    def __init__(self, step: Fraction) -> None:
        self.step = step
        """Distance of the latest two frames."""
        self.origin: Fraction | None = None
        """The time stamp that counts as 0 s."""
        self.last: Fraction | None = None
        """Time of the latest frame."""
        self.last_decoded: Fraction | None = None
        self.count = 0

    def time(self, stamp: Fraction | None, decoded: Fraction | None, next_stamp: Fraction | None) -> Fraction:
        """Seconds of the next frame, from its presentation and decoding time stamps and the presentation time stamp of
        the frame after it."""
        time = Fraction(0) if self.last is None else self._after(self.last, stamp, decoded, next_stamp)
        if self.last is None:
            rises = stamp is not None and (next_stamp is None or next_stamp >= stamp)
            self.origin = stamp if rises or next_stamp is None else next_stamp - self.step
        else:
            self.step = time - self.last
        self.last, self.last_decoded = time, decoded
        self.count += 1
        return time

    def _after(
        self, last: Fraction, stamp: Fraction | None, decoded: Fraction | None, next_stamp: Fraction | None
    ) -> Fraction:
        time, next_time = self._since_origin(stamp), self._since_origin(next_stamp)
        if time is not None and time > last and (next_time is None or next_time >= time):
            if time - last <= LONGEST_HOLD:
                return time
            if self.count == 1 or next_time is None:  # the first or the last frame alone is elsewhere
                step = self.step if next_time is None else min(self.step, next_time - time)
                return self._from_here(last + step, stamp)
            raise TimestampGapError(
                f"its time stamps jump by {float(time - last):,.0f} s after {float(last):,.1f} s: split it there"
            )
        if next_time is not None and last < next_time <= last + LONGEST_HOLD:
            return (last + next_time) / 2
        risen = decoded - self.last_decoded if decoded is not None and self.last_decoded is not None else Fraction(0)
        return self._from_here(last + (risen if 0 < risen <= LONGEST_HOLD else self.step), stamp)

    def _from_here(self, time: Fraction, stamp: Fraction | None) -> Fraction:
        """Counts from this time stamp from now on."""
        if stamp is not None:
            self.origin = stamp - time
        return time

    def _since_origin(self, stamp: Fraction | None) -> Fraction | None:
        return None if stamp is None or self.origin is None else stamp - self.origin


def shown_at(frame: VideoFrame) -> Fraction | None:
    """Presentation time stamp in seconds, if the file has one."""
    return None if frame.pts is None or frame.time_base is None else frame.pts * frame.time_base


def decoded_at(frame: VideoFrame) -> Fraction | None:
    """Decoding time stamp in seconds, if the file has one."""
    return None if frame.dts is None or frame.time_base is None else frame.dts * frame.time_base
