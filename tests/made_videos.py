"""Video files for tests: pictures with known content, files of other encoders, and broken files."""

from fractions import Fraction
from pathlib import Path

import av
import numpy as np

from scaling.data.video import read_clips, write_video
from scaling.data.video_info import Window


def levels(count: int, height: int = 32, width: int = 48, step: int = 4) -> np.ndarray:
    """Frame i is gray of level 16 + step * i, so that the level identifies the frame: (t, h, w, 3)."""
    gray = (16 + step * np.arange(count)).astype(np.uint8)
    return np.broadcast_to(gray[:, None, None, None], (count, height, width, 3)).copy()


def shades(count: int, height: int, width: int) -> np.ndarray:
    """A smooth moving picture: (t, h, w, 3)."""
    t, y, x = np.ogrid[:count, :height, :width]
    waves = [128 + 100 * np.sin((x + 2 * t + k * 20) / 16) * np.cos((y - t + k * 10) / 12) for k in range(3)]
    return np.stack(waves, -1).astype(np.uint8)


def encode(
    path: Path, frames: np.ndarray, codec: str, pixels: str, rate: int = 10, aspect: Fraction | None = None
) -> None:
    """Writes a file as another encoder would."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=rate)
        stream.height, stream.width, stream.pix_fmt = *frames.shape[1:3], pixels
        if aspect is not None:
            stream.codec_context.sample_aspect_ratio = aspect
        for picture in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode())


def sound(path: Path) -> None:
    """Writes a file with sound and no pictures."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("aac", rate=8000)
        tone = av.AudioFrame.from_ndarray(np.zeros((1, 8000), np.float32), format="fltp", layout="mono")
        tone.sample_rate = 8000
        container.mux(stream.encode(tone))
        container.mux(stream.encode())


def set_matrix(path: Path, matrix: tuple[float, float, float, float]) -> None:
    """Sets a, b, c, d of the display matrix of an MP4: a pixel at (x, y) is shown at (a x + c y, b x + d y)."""
    content = bytearray(path.read_bytes())
    start = content.index(b"tkhd") + 4 + 40
    a, b, c, d = (round(value * (1 << 16)) for value in matrix)
    content[start : start + 36] = b"".join(
        value.to_bytes(4, "big", signed=True) for value in (a, b, 0, c, d, 0, 0, 0, 1 << 30)
    )
    path.write_bytes(content)


def turn_clockwise(path: Path) -> None:
    """Sets the display matrix of an MP4 to a quarter turn, as a phone held upright does."""
    set_matrix(path, (0, 1, -1, 0))


def write_three_videos(videos: Path) -> None:
    """Three readable videos, one of them below another folder, and no captions file."""
    write_video(videos / "a_red-car.mp4", shades(34, 64, 96), 8)
    write_video(videos / "deep" / "b.MP4", levels(25), 10)
    write_video(videos / "c.mp4", levels(12), 8)


def read_clip(path: Path, window: Window, size: tuple[int, int]) -> np.ndarray:
    """One clip of a file."""
    return next(read_clips(path, [window], size))


def psnr(a: np.ndarray, b: np.ndarray) -> float:
    """Peak signal-to-noise ratio in dB."""
    return float(10 * np.log10(255**2 / ((a.astype(float) - b) ** 2).mean()))


def break_zero(path: Path) -> None:
    path.write_bytes(b"")


def break_text(path: Path) -> None:
    path.write_text("this is a letter, not a video\n" * 50)


def break_noise(path: Path) -> None:
    path.write_bytes(np.random.default_rng(0).bytes(20_000))


def break_half(path: Path) -> None:
    write_video(path, shades(60, 64, 96), 8)  # its index comes first, so a half still opens
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def break_head(path: Path) -> None:
    encode(path, shades(30, 64, 96), "mpeg4", "yuv420p")  # its index comes last
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def break_still(path: Path) -> None:
    write_video(path, shades(1, 64, 96), 8)


def break_header_alone(path: Path) -> None:
    path.write_bytes(b"\x00\x00\x00\x18ftypmp42" + bytes(12))
