"""Videos as users have them: whole and broken files, odd shapes and rates, captions, and the clips cut of them."""

import json
import os
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from scaling.cli.main import main
from scaling.core.errors import UserError
from scaling.core.specs import DataSpec
from scaling.data.clips import Clip, list_clips, read, split
from scaling.data.index import Index, examine, folder_manifest, index_folder
from scaling.data.video import UnreadableVideo, Window, inspect, read_clips, write_video


def levels(count: int, height: int = 32, width: int = 48, step: int = 4) -> np.ndarray:
    """Frame i is grey of level 16 + step * i, so that a frame can be told by its colour: (t, h, w, 3)."""
    grey = (16 + step * np.arange(count)).astype(np.uint8)
    return np.broadcast_to(grey[:, None, None, None], (count, height, width, 3)).copy()


def shades(count: int, height: int, width: int) -> np.ndarray:
    """A smooth moving picture: (t, h, w, 3)."""
    t, y, x = np.ogrid[:count, :height, :width]
    waves = [128 + 100 * np.sin((x + 2 * t + k * 20) / 16) * np.cos((y - t + k * 10) / 12) for k in range(3)]
    return np.stack(waves, -1).astype(np.uint8)


def encode(
    path: Path, frames: np.ndarray, codec: str, pixels: str, rate: int = 10, aspect: Fraction | None = None
) -> None:
    """Writes a file as somebody else's encoder would."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=rate)
        stream.height, stream.width, stream.pix_fmt = *frames.shape[1:3], pixels
        if aspect is not None:
            stream.codec_context.sample_aspect_ratio = aspect
        for picture in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode())


def sound(path: Path) -> None:
    with av.open(str(path), "w") as container:
        stream = container.add_stream("aac", rate=8000)
        tone = av.AudioFrame.from_ndarray(np.zeros((1, 8000), np.float32), format="fltp", layout="mono")
        tone.sample_rate = 8000
        container.mux(stream.encode(tone))
        container.mux(stream.encode())


def turn_clockwise(path: Path) -> None:
    """Sets the display matrix of an MP4 to a quarter turn, as a phone held upright does."""
    content = bytearray(path.read_bytes())
    matrix = content.index(b"tkhd") + 4 + 40
    content[matrix : matrix + 36] = b"".join(
        value.to_bytes(4, "big", signed=True) for value in (0, 1 << 16, 0, -(1 << 16), 0, 0, 0, 0, 1 << 30)
    )
    path.write_bytes(content)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Three whole videos, one below another folder, and no captions file."""
    videos = tmp_path / "videos"
    write_video(videos / "a_red-car.mp4", shades(34, 64, 96), 8)
    write_video(videos / "deep" / "b.MP4", levels(25), 10)
    write_video(videos / "c.mp4", levels(12), 8)
    return videos


def read_clip(path: Path, window: Window, size: tuple[int, int]) -> np.ndarray:
    return next(read_clips(path, [window], size))


def psnr(a: np.ndarray, b: np.ndarray) -> float:
    return float(10 * np.log10(255**2 / ((a.astype(float) - b) ** 2).mean()))


# Writing and reading


def test_what_is_written_is_read_back(tmp_path: Path) -> None:
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


def test_a_clip_takes_the_nearest_frames_at_a_lower_rate(tmp_path: Path) -> None:
    write_video(tmp_path / "v.mp4", levels(50), 24)
    first, second = read_clips(tmp_path / "v.mp4", [Window(0, 5, 8), Window(1, 3, 10)], (48, 32))
    np.testing.assert_allclose(first.mean((1, 2, 3)), 16 + 4 * np.array([0, 3, 6, 9, 12]), atol=2)
    np.testing.assert_allclose(second.mean((1, 2, 3)), 16 + 4 * np.array([24, 26, 29]), atol=2)


def test_past_the_end_the_last_frame_stays(tmp_path: Path) -> None:
    write_video(tmp_path / "v.mp4", levels(6), 8)
    clip = read_clip(tmp_path / "v.mp4", Window(0.5, 5, 8), (48, 32))
    np.testing.assert_allclose(clip.mean((1, 2, 3)), 16 + 4 * np.array([4, 5, 5, 5, 5]), atol=2)


def test_scaling_covers_the_size_and_cuts_the_middle(tmp_path: Path) -> None:
    frames = np.zeros((5, 64, 160, 3), np.uint8)
    frames[:, :, 40:120] = 200
    write_video(tmp_path / "v.mp4", frames, 8)
    clip = read_clip(tmp_path / "v.mp4", Window(0, 5, 8), (32, 32))  # the middle 64 x 64 of it
    assert clip.shape == (5, 32, 32, 3)
    assert clip.min() > 190


def test_shrinking_averages_instead_of_picking(tmp_path: Path) -> None:
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
    assert clip[:28, :, 0].min() > 180  # left has become top
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
    shapes = {
        clip.path.name: pictures.shape for clip, pictures in read(list_clips(index, DataSpec(folder=".", fps=10)))
    }
    assert shapes == {"loop.gif": (5, 48, 64, 3), "odd.mkv": (5, 32, 48, 3), "wide.mkv": (5, 32, 80, 3)}


# Broken files


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


BROKEN = [
    (break_zero, r"empty file \(0 bytes\)"),
    (break_text, "not a video"),
    (break_noise, "not a video"),
    (break_half, "cut off or damaged: only .*% of it decodes"),
    (break_head, "not a video, or cut off"),
    (sound, "no video in it, only sound"),
    (break_still, "one frame only"),
    (break_header_alone, "not a video|no video"),
]


@pytest.mark.parametrize(("damage", "reason"), BROKEN)
def test_a_broken_file_is_skipped_with_its_reason(folder: Path, damage: Callable[[Path], None], reason: str) -> None:
    damage(folder / "broken.mp4")
    with pytest.raises(UnreadableVideo, match=reason):
        inspect(folder / "broken.mp4")
    index = index_folder(folder)
    assert [entry.file for entry in index.entries] == ["a_red-car.mp4", "c.mp4", "deep/b.MP4"]
    assert [row["file"] for row in index.skipped] == ["broken.mp4"]
    assert folder_manifest(folder) == index.manifest


def test_a_link_to_nowhere_and_half_written_files_are_no_candidates(folder: Path) -> None:
    (folder / "gone.mp4").symlink_to(folder / "nowhere.mp4")
    (folder / ".c.mp4.12.ab.tmp.mp4").write_bytes(b"half")
    assert len(examine(folder).files) == 3


def test_a_name_that_is_not_utf8_does_not_stop_the_index(folder: Path) -> None:
    os.rename(os.fsencode(folder / "c.mp4"), os.fsencode(folder) + b"/caf\xe9.mp4")
    index = index_folder(folder)
    assert "caf\\xe9.mp4" in [row["file"] for row in index.skipped]
    index.save(folder / "index.json")
    assert Index.load(folder / "index.json") == index


def test_one_frame_and_picture_files_are_images_if_asked_for(folder: Path) -> None:
    break_still(folder / "still.mp4")
    encode(folder / "photo.png", shades(1, 64, 96), "png", "rgb24")
    index = index_folder(folder, images=True)
    assert not index.skipped
    spec = DataSpec(folder=str(folder), images=True)
    stills = {clip.path.name: clip.frames for clip in list_clips(index, spec) if clip.frames == 1}
    assert stills == {"photo.png": 1, "still.mp4": 1}
    shapes = {clip.path.name: pictures.shape for clip, pictures in read(list_clips(index, spec))}
    assert shapes["photo.png"] == shapes["still.mp4"] == (1, 48, 64, 3)
    assert "photo.png" not in [entry.file for entry in examine(folder).files]


# Index and captions


def test_the_index_survives_its_file(folder: Path) -> None:
    break_zero(folder / "broken.mp4")
    index = index_folder(folder)
    index.save(folder / "index.json")
    assert Index.load(folder / "index.json") == index
    assert index.summary() == {
        "clips": 3,
        "hours": pytest.approx((34 / 8 + 25 / 10 + 12 / 8) / 3600),
        "shapes": {"48x32": 2, "96x64": 1},
        "skipped": [{"file": "broken.mp4", "reason": "empty file (0 bytes)"}],
    }
    (folder / "index.json").write_text('{"folder": "x"}')
    with pytest.raises(UserError, match=r"index.json: files: Field required"):
        Index.load(folder / "index.json")


def test_the_manifest_follows_names_contents_and_captions(folder: Path) -> None:
    seen = [folder_manifest(folder)]
    assert seen[0] == index_folder(folder).manifest
    (folder / "captions.csv").write_text("file,caption\nc.mp4,a grey ramp\n")
    seen.append(folder_manifest(folder))
    (folder / "c.mp4").rename(folder / "d.mp4")
    seen.append(folder_manifest(folder))
    write_video(folder / "d.mp4", levels(13), 8)
    seen.append(folder_manifest(folder))
    break_zero(folder / "e.mp4")
    seen.append(folder_manifest(folder))
    assert len(set(seen)) == 5
    assert seen[-1] == index_folder(folder).manifest


@pytest.mark.parametrize("kind", ["csv", "jsonl"])
def test_captions_come_from_a_file_and_else_from_the_name(folder: Path, kind: str) -> None:
    rows = [
        {"file": "c.mp4", "caption": "a ramp, grey"},
        {"file": "deep/b.MP4", "caption": ""},
        {"file": "x", "caption": "y"},
    ]
    if kind == "csv":
        text = "file,caption,note\n" + "".join(f'{row["file"]},"{row["caption"]}",\n' for row in rows)
    else:
        text = "".join(json.dumps(row) + "\n" for row in rows)
    (folder / f"captions.{kind}").write_text(text, encoding="utf-8-sig")
    index = index_folder(folder)
    captions = {entry.file: entry.caption for entry in index.entries}
    assert captions == {"a_red-car.mp4": "a red car", "c.mp4": "a ramp, grey", "deep/b.MP4": "b"}
    assert index.unmatched_captions == 1


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("c.csv", "filename,caption\nc.mp4,x\n", "c.csv:2: no column 'file'; rename 'filename'"),
        ("c.csv", "file,captions\nc.mp4,x\n", "c.csv:2: no column 'caption'; rename 'captions'"),
        ("c.csv", "file,text\nc.mp4,x\n", "c.csv:2: no column 'caption'; it has: file, text"),
        ("c.csv", "", "c.csv: empty"),
        ("c.csv", "file,caption\nc.mp4,x\nc.mp4,y\n", "c.csv:3: a second caption for 'c.mp4'"),
        ("c.csv", "file,caption\nc.mp4\n", "c.csv:2: 'caption' must be text"),
        ("c.jsonl", '{"file": "c.mp4", "caption": 3}\n', "c.jsonl:1: 'caption' must be text"),
        ("c.jsonl", '{"file": "c.mp4", "caption": "x"}\n{"fi\n', "c.jsonl:2: not valid JSON"),
        ("c.jsonl", "[1]\n", "c.jsonl:1: expected an object"),
        ("c.csv", None, "c.csv: no such captions file"),
    ],
)
def test_unusable_captions_are_the_users_mistake(folder: Path, name: str, text: str | None, message: str) -> None:
    if text is not None:
        (folder / name).write_text(text)
    with pytest.raises(UserError) as error:
        index_folder(folder, captions=folder / name)
    assert message in str(error.value)
    assert "\n" not in str(error.value)


def test_captions_in_another_encoding_are_refused(folder: Path) -> None:
    (folder / "captions.csv").write_bytes("file,caption\nc.mp4,café\n".encode("latin-1"))
    with pytest.raises(UserError, match=r"captions.csv: not a CSV or JSONL file in UTF-8"):
        index_folder(folder)


def test_a_folder_without_videos_is_the_users_mistake(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="nowhere: no such folder"):
        index_folder(tmp_path / "nowhere")
    (tmp_path / "notes.txt").write_text("x")
    with pytest.raises(UserError, match=r"notes.txt: is a file"):
        index_folder(tmp_path / "notes.txt")
    with pytest.raises(UserError, match="no videos in it"):
        index_folder(tmp_path)
    break_zero(tmp_path / "a.mp4")
    with pytest.raises(UserError, match=r"none of its 1 files .* a.mp4: empty file"):
        index_folder(tmp_path)


# Clips


def test_windows_follow_each_other_and_the_rest_is_cut_to_one_plus_four_k(folder: Path) -> None:
    clips = list_clips(index_folder(folder), DataSpec(folder=str(folder), frames=9, fps=8))
    assert [(clip.path.name, clip.start_seconds, clip.frames, clip.fps) for clip in clips] == [
        ("a_red-car.mp4", 0.0, 9, 8.0),
        ("a_red-car.mp4", 9 / 8, 9, 8.0),
        ("a_red-car.mp4", 18 / 8, 9, 8.0),
        ("a_red-car.mp4", 27 / 8, 5, 8.0),  # 34 = 3 * 9 + 7, and 7 is cut to 5
        ("c.mp4", 0.0, 9, 8.0),  # 12 = 9 + 3, and 3 is too short
        ("b.MP4", 0.0, 9, 8.0),  # 25 frames at 10 fps are 20 at 8
        ("b.MP4", 9 / 8, 9, 8.0),
    ]
    assert [clip.ordinal for clip in clips] == list(range(7))
    assert {(clip.width, clip.height) for clip in clips} == {(64, 48), (48, 32)}
    slow = list_clips(index_folder(folder), DataSpec(folder=str(folder), frames=9, fps=24))
    assert {clip.path.name: clip.fps for clip in slow} == {"a_red-car.mp4": 8.0, "c.mp4": 8.0, "b.MP4": 10.0}


def test_every_clip_has_the_shape_and_the_frames_it_promises(folder: Path) -> None:
    clips = list_clips(index_folder(folder), DataSpec(folder=str(folder), frames=5))
    for clip, pictures in read(clips):
        assert pictures.shape == (clip.frames, clip.height, clip.width, 3)
    ramp = {clip.ordinal: pictures.mean((1, 2, 3)) for clip, pictures in read(clips) if clip.path.name == "c.mp4"}
    np.testing.assert_allclose(np.concatenate(list(ramp.values())), 16 + 4 * np.arange(10), atol=2)


def test_a_video_too_narrow_is_named(tmp_path: Path) -> None:
    write_video(tmp_path / "thin.mp4", shades(6, 16, 400), 8)
    with pytest.raises(
        UserError, match=r"thin.mp4: 400x16 shrinks to 320x13 within 4096 pixels, but each side needs 16"
    ):
        list_clips(index_folder(tmp_path), DataSpec(folder=str(tmp_path)))


def test_videos_that_are_all_too_short_are_the_users_mistake(tmp_path: Path) -> None:
    write_video(tmp_path / "short.mp4", levels(4), 8)
    with pytest.raises(UserError, match="no video has the 5 frames"):
        list_clips(index_folder(tmp_path), DataSpec(folder=str(tmp_path)))


def make_clips(*counts: int) -> list[Clip]:
    """So many clips of each of some videos."""
    files = [Path(f"{number}.mp4") for number, count in enumerate(counts) for _ in range(count)]
    return [Clip(file, 0.0, 5, 8.0, 16, 16, "", ordinal) for ordinal, file in enumerate(files)]


@pytest.mark.parametrize(
    ("counts", "every", "expected"),
    [
        ([4] * 128, 16, {f"{number}.mp4" for number in range(15, 128, 16)}),
        ([1] * 32, 16, {"15.mp4", "31.mp4"}),
        ([1, 1, 1], 16, {"2.mp4"}),
    ],
)
def test_held_out_videos_share_no_scene_with_the_training(counts: list[int], every: int, expected: set[str]) -> None:
    clips = make_clips(*counts)
    train, held_out = split(clips, every)
    assert {str(clip.path) for clip in held_out} == expected
    assert not {clip.path for clip in train} & {clip.path for clip in held_out}
    assert sorted(train + held_out, key=lambda clip: clip.ordinal) == clips


@pytest.mark.parametrize(
    ("counts", "every", "expected"),
    [([5], 2, [2, 3, 4]), ([5, 1, 2], 4, [3, 4, 7]), ([2] * 8, 8, list(range(1, 16, 2)))],
)
def test_few_videos_give_their_ends(counts: list[int], every: int, expected: list[int]) -> None:
    train, held_out = split(make_clips(*counts), every)
    assert [clip.ordinal for clip in held_out] == expected
    assert {clip.ordinal for clip in train} == set(range(sum(counts))) - set(expected)


def test_one_clip_is_too_few() -> None:
    with pytest.raises(UserError, match="only 1 clip"):
        split(make_clips(1), 2)


def test_a_file_that_broke_after_indexing_is_named(folder: Path) -> None:
    clips = list_clips(index_folder(folder), DataSpec(folder=str(folder)))
    break_zero(folder / "c.mp4")
    with pytest.raises(UserError, match=r"c.mp4: empty file .* index the folder again"):
        list(read(clips))


# Real videos


def real_videos() -> Path:
    given = os.environ.get("SCALING_VIDEOS")
    return Path(given) if given else Path(__file__).parents[2] / "shared" / "videos"


@pytest.mark.skipif(not real_videos().is_dir(), reason="no real videos: set SCALING_VIDEOS to a folder of them")
def test_real_videos_are_indexed_cut_and_read() -> None:
    index = index_folder(real_videos())
    assert not index.skipped
    assert folder_manifest(real_videos()) == index.manifest
    clips = list_clips(index, DataSpec(folder=str(real_videos())))
    infos = {entry.file: entry.info for entry in index.entries}
    assert {str(clip.path.relative_to(real_videos())) for clip in clips} == set(infos)
    assert len({clip.width / clip.height for clip in clips}) > 1
    firsts = [clip for clip in clips if clip.start_seconds == 0]
    for clip, pictures in read(firsts):
        assert pictures.shape == (clip.frames, clip.height, clip.width, 3)
        assert pictures.std() > 5  # not blank
        assert clip.width * clip.height <= 4096
        assert clip.width % 16 == clip.height % 16 == 0


# The command line


def test_the_command_line_prints_one_object_and_progress_elsewhere(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    videos = tmp_path / "worlds"
    make = ["make", "--out", str(videos), "--count", "3", "--frames", "9", "--processes", "1", "--json"]
    assert main(["data", *make]) == 0
    assert json.loads(capsys.readouterr().out)["count"] == 3
    break_zero(videos / "videos" / "broken.mp4")
    assert main(["data", "index", str(videos), "--out", str(tmp_path / "index.json"), "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert result["clips"] == 3
    assert result["shapes"] == {"64x64": 3}
    assert result["manifest"] == Index.load(tmp_path / "index.json").manifest
    assert main(["data", "check", str(videos), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["skipped"] == [
        {"file": "videos/broken.mp4", "reason": "empty file (0 bytes)"}
    ]
    assert main(["data", "check", str(videos)]) == 0
    assert "unreadable: videos/broken.mp4: empty file" in capsys.readouterr().out


@pytest.mark.parametrize(("flag", "value"), [("--width", "63"), ("--count", "0"), ("--processes", "0")])
def test_a_world_that_cannot_be_is_refused_by_name(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], flag: str, value: str
) -> None:
    assert main(["data", "make", "--out", str(tmp_path / "worlds"), flag, value]) == 2
    assert flag in capsys.readouterr().err
    assert not (tmp_path / "worlds").exists()
