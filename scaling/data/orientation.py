"""How a decoded picture has to be turned and mirrored to be shown: the display matrix of a video, and the EXIF
orientation of an image."""

import struct
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from numpy.typing import NDArray

if TYPE_CHECKING:
    from av.video.frame import VideoFrame

EXIF_ORIENTATION = 0x0112
EXIF_SUFFIXES = frozenset({".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp"})


@dataclass(frozen=True)
class Orientation:
    """One of the eight ways to lay a picture on a grid: rows and columns are swapped first, then mirrored."""

    swapped: bool = False
    """Whether rows become columns."""
    mirrored_x: bool = False
    """Whether left and right change places, after the swap."""
    mirrored_y: bool = False
    """Whether top and bottom change places, after the swap."""

    def apply(self, picture: NDArray[Any]) -> NDArray[Any]:
        """(h, w, c) as decoded to (h, w, c) as shown."""
        if self.swapped:
            picture = picture.swapaxes(0, 1)
        return picture[:: -1 if self.mirrored_y else 1, :: -1 if self.mirrored_x else 1]

    def sides(self, width: int, height: int) -> tuple[int, int]:
        """Width and height as shown, or as decoded from those as shown."""
        return (height, width) if self.swapped else (width, height)


EXIF = {
    1: Orientation(),
    2: Orientation(mirrored_x=True),
    3: Orientation(mirrored_x=True, mirrored_y=True),
    4: Orientation(mirrored_y=True),
    5: Orientation(swapped=True),
    6: Orientation(swapped=True, mirrored_x=True),
    7: Orientation(swapped=True, mirrored_x=True, mirrored_y=True),
    8: Orientation(swapped=True, mirrored_y=True),
}
"""What the EXIF orientations mean (CIPA DC-008, tag 274)."""
QUARTER_TURNS = (EXIF[1], EXIF[8], EXIF[3], EXIF[6])
"""Turned counterclockwise by 0, 90, 180 and 270 degrees."""


def orientation_of(path: Path, frame: "VideoFrame") -> Orientation:
    """The orientation of a file whose first frame is given."""
    return _of_image(path) if path.suffix.lower() in EXIF_SUFFIXES else _of_frame(frame)


def of_matrix(matrix: bytes) -> Orientation:
    """The orientation that is nearest to a display matrix, nine 32-bit numbers a, b, u, c, d, v, x, y, w: a pixel at
    (x, y) is shown at (a x + c y, b x + d y)."""
    a, b, _, c, d, *_ = struct.unpack("=9i", matrix[:36])
    swapped = abs(b) + abs(c) > abs(a) + abs(d)
    return Orientation(swapped, (c if swapped else a) < 0, (b if swapped else d) < 0)


def _of_image(path: Path) -> Orientation:
    from PIL import Image, UnidentifiedImageError

    try:
        with Image.open(path) as image:
            return EXIF.get(image.getexif().get(EXIF_ORIENTATION, 1), Orientation())
    except (UnidentifiedImageError, OSError):  # FFmpeg says what is wrong with it
        return Orientation()


def _of_frame(frame: "VideoFrame") -> Orientation:
    try:
        matrix: Any = frame.side_data.get("DISPLAYMATRIX")
    except ValueError:  # PyAV does not know every kind of side data, and then gives none; mirroring is lost
        return QUARTER_TURNS[round(frame.rotation / 90) % 4]
    return Orientation() if matrix is None else of_matrix(bytes(matrix))
