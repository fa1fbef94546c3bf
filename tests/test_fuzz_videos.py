"""Whatever happens to the bytes of a video: it is read, or it is refused with a reason. Never a crash, never a hang."""

from collections import Counter

import numpy as np

from scaling.data.video import UnreadableVideo, inspect, read_clips
from scaling.data.video_info import Window
from tests.made_videos import encode, shades

KINDS = (
    ("libx264", ".mp4", "yuv420p"),
    ("libx264", ".ts", "yuv420p"),
    ("libx264", ".avi", "yuv420p"),
    ("mpeg4", ".avi", "yuv420p"),
    ("mpeg2video", ".mpg", "yuv420p"),
    ("libvpx-vp9", ".webm", "yuv420p"),
    ("mjpeg", ".mov", "yuvj420p"),
    ("gif", ".gif", "rgb8"),
    ("ffv1", ".mkv", "bgr0"),
    ("flv", ".flv", "yuv420p"),
)


def mutated(content: bytes, rng: np.random.Generator) -> bytes:
    """Bytes overwritten, removed, repeated elsewhere, or a single one changed, in up to seven places."""
    result = bytearray(content)
    for _ in range(rng.integers(1, 8)):
        at, length = int(rng.integers(len(result))), int(rng.integers(1, 200))
        match int(rng.integers(4)):
            case 0:
                result[at : at + length] = rng.bytes(min(length, len(result) - at))
            case 1:
                del result[at : at + length]
            case 2:
                result[at:at] = result[at // 2 : at // 2 + length]
            case _:
                result[at] = int(rng.integers(256))
    return bytes(result)


COUNT = 500


def test_a_mutated_video_is_read_or_refused(tmp_path):
    sources = []
    for codec, suffix, pixels in KINDS:
        path = tmp_path / f"source-{codec}{suffix}"
        encode(path, shades(24, 48, 64), codec, pixels)
        sources.append((path.read_bytes(), suffix))
    ends = Counter()
    for number in range(COUNT):
        content, suffix = sources[number % len(sources)]
        path = tmp_path / f"mutated{suffix}"
        path.write_bytes(mutated(content, np.random.default_rng(number)))
        try:
            info = inspect(path)
            (clip,) = read_clips(path, [Window(0, 5, info.fps)], (32, 32))
            assert clip.shape == (5, 32, 32, 3)
            ends["read"] += 1
        except UnreadableVideo:
            ends["refused"] += 1
    assert min(ends["read"], ends["refused"]) > COUNT / 10  # both happen, so both were tried
