"""What a video file holds, and which frames of it to read. Not the reading, which `scaling.data.video` does by PyAV."""

from dataclasses import dataclass
from typing import Literal

from scaling.core.specs import Spec


class VideoInfo(Spec):
    """What a video file holds, as it is displayed."""

    codec: str
    width: int
    """Pixels, with the rotation and the pixel aspect ratio applied."""
    height: int
    """Pixels, like the width."""
    fps: float
    """Frames per second."""
    frames: int
    """Number of frames that could be decoded, which may differ from the number that the file declares."""
    duration: float
    """Seconds from the start of the first frame to the end of the last."""
    hdr: Literal["", "pq", "hlg"] = ""
    """Transfer function of a high dynamic range. Its pictures are not tone-mapped and look flat."""
    interlaced: bool = False
    """Whether its frames are made of two fields. They are not separated, so that edges in motion look like combs."""

    @property
    def size(self) -> tuple[int, int]:
        """Width and height."""
        return self.width, self.height


@dataclass(frozen=True)
class Window:
    """Which frames to read: `frames` of them, at `fps`, from `start_seconds` after the video's first frame."""

    start_seconds: float
    frames: int
    fps: float

    def times(self) -> list[float]:
        return [self.start_seconds + i / self.fps for i in range(self.frames)]
