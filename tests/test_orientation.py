"""Pictures are turned and mirrored as the file says: the whole display matrix of a video, and all EXIF orientations."""

import math

import numpy as np
import pytest
from PIL import Image, ImageOps

from scaling.data.orientation import EXIF, EXIF_ORIENTATION
from scaling.data.video import inspect, write_video
from scaling.data.video_info import Window
from tests.made_videos import psnr, read_clip, set_matrix, shades

HEIGHT, WIDTH = 48, 64


@pytest.mark.parametrize("number", EXIF)
@pytest.mark.parametrize("suffix", [".jpg", ".png", ".webp", ".tif"])
def test_all_exif_orientations_are_those_of_pillow(tmp_path, number, suffix):
    exif = Image.Exif()
    exif[EXIF_ORIENTATION] = number
    path = tmp_path / f"image{suffix}"
    options = {".jpg": {"quality": 95}, ".webp": {"lossless": True}}.get(suffix, {})
    Image.fromarray(shades(1, HEIGHT, WIDTH)[0]).save(path, exif=exif, **options)
    with Image.open(path) as image:
        expected = np.asarray(ImageOps.exif_transpose(image).convert("RGB"))
    info = inspect(path, images=True)
    assert (info.height, info.width) == expected.shape[:2]
    actual = read_clip(path, Window(0, 1, 1), (info.width, info.height))[0]
    assert psnr(actual, expected) > 30


def turn(degrees):
    """The matrix a, b, c, d that turns clockwise."""
    cosine, sine = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    return cosine, sine, -sine, cosine


MATRICES = {
    "as it is": ((1, 0, 0, 1), lambda picture: picture),
    "mirrored": ((-1, 0, 0, 1), np.fliplr),
    "upside down and mirrored": ((1, 0, 0, -1), np.flipud),
    "turned by 180": ((-1, 0, 0, -1), lambda picture: np.rot90(picture, 2)),
    "turned by 90": (turn(90), lambda picture: np.rot90(picture, -1)),
    "turned by 270": (turn(270), lambda picture: np.rot90(picture, 1)),
    "turned by 1": (turn(1), lambda picture: picture),
    "turned by 91": (turn(91), lambda picture: np.rot90(picture, -1)),
    "turned by 359": (turn(359), lambda picture: picture),
    "transposed": ((0, 1, 1, 0), lambda picture: picture.swapaxes(0, 1)),
    "transposed over the other diagonal": ((0, -1, -1, 0), lambda picture: np.rot90(picture, 2).swapaxes(0, 1)),
}


@pytest.mark.parametrize("name", MATRICES)
def test_a_display_matrix_turns_and_mirrors_to_the_nearest_right_angle(tmp_path, name):
    matrix, expected = MATRICES[name]
    frames, path = shades(6, HEIGHT, WIDTH), tmp_path / "video.mp4"
    write_video(path, frames, 8)
    set_matrix(path, matrix)
    shown = np.stack([expected(frame) for frame in frames])
    info = inspect(path)
    assert (info.height, info.width) == shown.shape[1:3]
    assert psnr(read_clip(path, Window(0, 6, 8), (info.width, info.height)), shown) > 33
