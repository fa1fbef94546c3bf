"""Frames are shown in their order and at their times, whatever the file's time stamps say."""

from fractions import Fraction
from itertools import pairwise

import av
import numpy as np
import pytest

from scaling.data.clip_shapes import frames_at_rate
from scaling.data.timestamps import Clock, TimestampGapError
from scaling.data.video import UnreadableVideo, inspect, read_clips
from scaling.data.video_info import Window
from tests.made_videos import levels

STEP = Fraction(1, 10)


def times(stamps, decoded=None):
    """Times in tenths of a second of frames with these presentation and decoding time stamps, in tenths as well."""
    clock = Clock(STEP)
    decoded = decoded or [None] * len(stamps)
    tenths = [None if stamp is None else stamp * STEP for stamp in stamps]
    dts = [None if stamp is None else stamp * STEP for stamp in decoded]
    following = [*tenths[1:], None]
    return [float(clock.time(*row) / STEP) for row in zip(tenths, dts, following, strict=True)]


@pytest.mark.parametrize(
    ("stamps", "decoded", "expected"),
    [
        ([3, 4, 5, 6], None, [0, 1, 2, 3]),
        ([0, 2, 4, 10, 12], None, [0, 2, 4, 10, 12]),  # a hold is held
        ([None] * 4, [2, 3, 4, None], [0, 1, 2, 3]),  # AVI with B-frames
        ([None] * 4, None, [0, 1, 2, 3]),
        ([0, 1, None, 3, 4], [0, 1, 2, 3, 4], [0, 1, 2, 3, 4]),
        ([0, 1, None, None, 4], None, [0, 1, 2, 3, 4]),
        ([0, 1, 9000, 3, 4], None, [0, 1, 2, 3, 4]),  # one wild, ahead
        ([0, 1, -9000, 3, 4], None, [0, 1, 2, 3, 4]),  # one wild, behind
        ([0, 1, 1, 2, 3], None, [0, 1, 1.5, 2, 3]),  # repeated
        ([0, 36000, 36001, 36002], None, [0, 1, 2, 3]),  # the first frame alone is elsewhere
        ([900, 1, 2, 3], None, [0, 1, 2, 3]),
        ([0, 1, 2, 9000], None, [0, 1, 2, 3]),  # the last frame alone is elsewhere
        ([0, 1, 2, 0, 1, 2], None, [0, 1, 2, 3, 4, 5]),  # two files joined, the second from 0 again
        ([5], None, [0]),
        ([None], None, [0]),
    ],
)
def test_times_rise_and_follow_the_stamps_that_make_sense(stamps, decoded, expected):
    assert times(stamps, decoded) == pytest.approx(expected)


def test_random_stamps_never_lead_back_in_time():
    for seed in range(300):
        rng = np.random.default_rng(seed)
        stamps = (np.arange(40) + rng.integers(-3, 4, 40) * (rng.random(40) < 0.2)).astype(object)
        stamps[rng.random(40) < 0.1] = None
        rising = times(list(stamps), list(range(40)))
        assert all(before < after for before, after in pairwise(rising))
        assert rising[-1] < 60


def test_a_long_gap_is_named():
    with pytest.raises(TimestampGapError, match=r"jump by 3,600 s after 0\.2 s"):
        times([0, 1, 2, 36002, 36003])


def write(path, stamps, bf="0"):
    """A file whose frame i shows level i and has the time stamp i of the list, in tenths of a second."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=10, options={"bf": bf, "crf": "3"})
        stream.height, stream.width, stream.pix_fmt = 32, 48, "yuv420p"
        stream.codec_context.time_base = Fraction(1, 10)
        for picture, stamp in zip(levels(len(stamps)), stamps, strict=True):
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
            frame.pts, frame.time_base = stamp, Fraction(1, 10)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


def shown(path, window):
    """Numbers of the frames that a clip shows."""
    clip = next(read_clips(path, [window], (48, 32)))
    return np.round((clip.mean((1, 2, 3)) - 16) / 4).astype(int).tolist()


def test_an_avi_with_b_frames_is_read_in_order(tmp_path):
    path = write(tmp_path / "b.avi", range(30), bf="3")
    assert inspect(path).duration == pytest.approx(3.0)
    assert shown(path, Window(0, 30, 10)) == list(range(30))


def test_a_variable_rate_has_the_rate_of_its_median_step_and_holds_are_held(tmp_path):
    path = write(tmp_path / "hold.mp4", [0, 1, 2, 3, 33, 34, 35, 36])
    info = inspect(path)
    assert (info.fps, info.frames) == (pytest.approx(10), 8)
    assert frames_at_rate(info, info.fps) == 37
    assert shown(path, Window(0, 37, info.fps)) == [0, 1, 2, *[3] * 30, 4, 5, 6, 7]


def test_the_frame_on_the_screen_is_taken_and_not_the_next_one(tmp_path):
    path = write(tmp_path / "slow.mp4", [0, 10, 20, 30])
    assert shown(path, Window(0, 7, 2)) == [0, 0, 1, 1, 2, 2, 3]
    assert shown(path, Window(0.9, 2, 1)) == [0, 1]


def test_two_recordings_in_one_file_are_refused_with_the_place(tmp_path):
    path = write(tmp_path / "joined.mp4", [*range(10), *range(36000, 36010)])
    with pytest.raises(UnreadableVideo, match=r"time stamps jump by 3,599 s after 0\.9 s: split it there"):
        inspect(path)


def test_a_first_frame_an_hour_early_costs_nothing(tmp_path):
    path = write(tmp_path / "first.mp4", [0, *range(36000, 36020)])
    info = inspect(path)
    assert (info.fps, info.frames, info.duration) == (pytest.approx(10), 21, pytest.approx(2.1))
    assert shown(path, Window(0, 21, 10)) == list(range(21))
