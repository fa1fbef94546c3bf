"""Video files are written and read exactly: frames, rates, sizes, rotation, pixel aspect ratio."""

from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from av.stream import Disposition
from PIL import Image

from scaling.core.specs import DataSpec
from scaling.data.clips import cut_clips
from scaling.data.frames import read_frames
from scaling.data.index import index_folder
from scaling.data.video import UnreadableVideo, inspect, read_clips, write_video
from scaling.data.video_info import Window
from tests.made_videos import encode, levels, psnr, read_clip, shades, turn_clockwise


def test_written_frames_are_read_back(tmp_path: Path) -> None:
    frames = shades(20, 48, 64)
    write_video(tmp_path / "v.mp4", frames, 12.5)
    info = inspect(tmp_path / "v.mp4")
    assert (info.codec, info.width, info.height, info.fps, info.frames) == ("h264", 64, 48, 12.5, 20)
    assert info.duration == pytest.approx(20 / 12.5)
    back = read_clip(tmp_path / "v.mp4", Window(0, 20, 12.5), (64, 48))
    assert back.shape == frames.shape
    assert psnr(back, frames) > 36


def test_the_same_frames_give_the_same_bytes(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    frames = np.kron(rng.integers(0, 255, (40, 8, 8, 3)), np.ones((1, 8, 8, 1))).astype(np.uint8)
    for number in range(8):
        write_video(tmp_path / f"{number}.mp4", frames, 8)
    assert len({path.read_bytes() for path in tmp_path.iterdir()}) == 1


def test_a_clip_takes_the_frames_on_the_screen_at_a_lower_rate(tmp_path: Path) -> None:
    write_video(tmp_path / "v.mp4", levels(50), 24)
    first, second = read_clips(tmp_path / "v.mp4", [Window(0, 5, 8), Window(1, 3, 10)], (48, 32))
    np.testing.assert_allclose(first.mean((1, 2, 3)), 16 + 4 * np.array([0, 3, 6, 9, 12]), atol=2)
    np.testing.assert_allclose(second.mean((1, 2, 3)), 16 + 4 * np.array([24, 26, 28]), atol=2)


def damage_packets(path: Path, share: float) -> int:
    """Overwrites a part of this share of a file's packets, from the second on; returns how many."""
    with av.open(str(path)) as container:
        packets = [(p.pos, p.size) for p in container.demux(video=0) if p.pos is not None and p.size]
    content, rng, damaged = bytearray(path.read_bytes()), np.random.default_rng(0), 0
    for position, size in packets[1:]:
        if rng.random() < share:
            start, length = position + size // 3, max(4, size // 4)
            content[start : start + length] = rng.bytes(length)
            damaged += 1
    path.write_bytes(content)
    return damaged


@pytest.mark.parametrize(("codec", "suffix"), [("libx264", ".mp4"), ("mpeg4", ".avi"), ("mjpeg", ".avi")])
def test_a_file_with_many_damaged_frames_is_refused_and_one_with_few_is_used(tmp_path: Path, codec, suffix) -> None:
    pixels = "yuvj420p" if codec == "mjpeg" else "yuv420p"
    for name, share in (("few", 0.02), ("many", 0.9)):
        encode(tmp_path / f"{name}{suffix}", shades(100, 64, 96), codec, pixels)
        assert damage_packets(tmp_path / f"{name}{suffix}", share)
    assert inspect(tmp_path / f"few{suffix}").frames > 90
    with pytest.raises(UnreadableVideo, match=r"damaged: \d+ of \d+ frames are corrupt|cut off or damaged"):
        inspect(tmp_path / f"many{suffix}")


def test_an_image_that_is_cut_off_is_damaged(tmp_path: Path) -> None:
    path = tmp_path / "image.jpg"
    Image.fromarray(shades(1, 200, 300)[0]).save(path)
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 2 // 3])
    with pytest.raises(UnreadableVideo, match="damaged: image file is truncated"):
        inspect(path, images=True)


def test_a_name_with_a_colon_is_a_file(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    write_video(Path("12:30.mp4"), levels(6), 8)
    for name in ("http:a.mp4", "concat:b.mp4"):
        Path(name).write_bytes(Path("12:30.mp4").read_bytes())
    assert [inspect(path).frames for path in sorted(Path().iterdir())] == [6, 6, 6]


def test_the_best_stream_is_read_and_never_the_cover(tmp_path: Path) -> None:
    with av.open(str(tmp_path / "two.mkv"), "w") as container:
        streams = []
        for height, width in ((32, 48), (64, 96)):
            stream = container.add_stream("libx264", rate=10)
            stream.height, stream.width, stream.pix_fmt = height, width, "yuv420p"
            streams.append(stream)
        streams[1].disposition = Disposition.default
        for number in range(6):
            for stream in streams:
                picture = levels(6, stream.height, stream.width)[number]
                container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        for stream in streams:
            container.mux(stream.encode())
    info = inspect(tmp_path / "two.mkv")
    assert (info.height, info.width, info.frames) == (64, 96, 6)


def test_high_dynamic_range_and_interlacing_are_named(tmp_path: Path) -> None:
    with av.open(str(tmp_path / "hdr.mkv"), "w") as container:
        stream = container.add_stream("libx264", rate=10)
        stream.height, stream.width, stream.pix_fmt = 48, 64, "yuv420p"
        stream.codec_context.color_trc = 16
        for picture in shades(6, 48, 64):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode())
    encode(tmp_path / "plain.mkv", shades(6, 48, 64), "libx264", "yuv420p")
    assert [inspect(tmp_path / f"{name}.mkv").hdr for name in ("hdr", "plain")] == ["pq", ""]
    with av.open(str(tmp_path / "fields.mpg"), "w") as container:
        stream = container.add_stream("mpeg2video", rate=25, options={"flags": "+ildct+ilme", "top": "1"})
        stream.height, stream.width, stream.pix_fmt = 48, 64, "yuv420p"
        for picture in shades(6, 48, 64):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode())
    assert inspect(tmp_path / "fields.mpg").interlaced
    assert not inspect(tmp_path / "plain.mkv").interlaced


def test_after_the_end_the_last_frame_is_repeated(tmp_path: Path) -> None:
    write_video(tmp_path / "v.mp4", levels(6), 8)
    clip = read_clip(tmp_path / "v.mp4", Window(0.5, 5, 8), (48, 32))
    np.testing.assert_allclose(clip.mean((1, 2, 3)), 16 + 4 * np.array([4, 5, 5, 5, 5]), atol=2)


def test_scaling_covers_the_size_and_keeps_the_middle(tmp_path: Path) -> None:
    frames = np.zeros((5, 64, 160, 3), np.uint8)
    frames[:, :, 40:120] = 200
    write_video(tmp_path / "v.mp4", frames, 8)
    clip = read_clip(tmp_path / "v.mp4", Window(0, 5, 8), (32, 32))  # the middle 64 x 64 of it
    assert clip.shape == (5, 32, 32, 3)
    assert clip.min() > 190


def test_shrinking_averages_pixels(tmp_path: Path) -> None:
    stripes = np.zeros((5, 64, 64, 3), np.uint8)
    stripes[:, :, ::2] = 240
    encode(tmp_path / "v.mkv", stripes, "ffv1", "bgr0")
    clip = read_clip(tmp_path / "v.mkv", Window(0, 1, 10), (16, 16))
    assert clip.min() > 110
    assert clip.max() < 130


def test_a_turned_video_is_read_upright(tmp_path: Path) -> None:
    frames = np.zeros((6, 32, 64, 3), np.uint8)
    frames[:, :, :32, 0] = 220  # the left half is red
    write_video(tmp_path / "v.mp4", frames, 8)
    turn_clockwise(tmp_path / "v.mp4")
    info = inspect(tmp_path / "v.mp4")
    assert (info.width, info.height) == (32, 64)
    clip = read_clip(tmp_path / "v.mp4", Window(0, 1, 8), (32, 64))[0]
    assert clip[:28, :, 0].min() > 180  # the left has become the top
    assert clip[36:, :, 0].max() < 40


def test_odd_sides_wide_pixels_and_other_codecs_are_read(tmp_path: Path) -> None:
    encode(tmp_path / "odd.mkv", shades(6, 47, 63), "ffv1", "bgr0")
    encode(tmp_path / "wide.mkv", shades(6, 48, 64), "mpeg4", "yuv420p", aspect=Fraction(3, 2))
    encode(tmp_path / "loop.gif", shades(6, 48, 64), "gif", "rgb8")
    assert [(inspect(path).width, inspect(path).height) for path in sorted(tmp_path.iterdir())] == [
        (64, 48),
        (63, 47),
        (96, 48),
    ]
    index = index_folder(tmp_path)
    clips = cut_clips(index, DataSpec(folder=".", fps=10))
    shapes = {clip.path.name: frames.shape for clip, frames in read_frames(clips)}
    assert shapes == {"loop.gif": (5, 48, 64, 3), "odd.mkv": (5, 32, 48, 3), "wide.mkv": (5, 32, 80, 3)}
