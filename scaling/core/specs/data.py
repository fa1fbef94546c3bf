"""Specs of the data: procedural worlds, a folder of videos, and how clips are cut."""

from math import gcd
from typing import Self

from pydantic import Field, model_validator

from scaling.core.specs.base import Spec


class WorldShape(Spec):
    """The size of a world's video."""

    frames: int = Field(ge=1)
    """Frames of the video; 1 makes an image, a video file of one frame."""
    height: int = Field(ge=16, multiple_of=2)
    """Height in pixels; even, because H.264 with 4:2:0 chroma needs it."""
    width: int = Field(ge=16, multiple_of=2)
    """Width in pixels; even like the height."""


class WorldSpec(Spec):
    """Procedural two-dimensional physics worlds, written as video files."""

    count: int = Field(2048, ge=1)
    """Number of video files that are made."""
    seed: int = Field(0, ge=0)
    """Seed of the worlds: world `i` depends on (seed, i) alone."""
    frames: int = Field(68, ge=1)
    """Frames in each video file."""
    fps: int = Field(8, ge=1, le=120)
    """Frames per second of each video file."""
    width: int = Field(64, ge=16, multiple_of=2)
    """Width in pixels; even, because H.264 with 4:2:0 chroma needs it."""
    height: int = Field(64, ge=16, multiple_of=2)
    """Height in pixels; even like the width."""
    max_objects: int = Field(2, ge=1, le=6)
    """Largest number of objects in a world; each world has between one and this many."""
    shapes: tuple[WorldShape, ...] = ()
    """Sizes that the worlds take in turn. Where it is given, `frames`, `height` and `width` are not used."""

    def shape(self, index: int) -> WorldShape:
        """The size of world `index`."""
        return self.sizes[index % len(self.sizes)]

    @property
    def sizes(self) -> tuple[WorldShape, ...]:
        """All sizes of worlds, each of which equally many worlds have."""
        return self.shapes or (WorldShape(frames=self.frames, height=self.height, width=self.width),)


class DataSpec(Spec):
    """The videos, and how clips are cut from them. Exactly one of `worlds` and `folder` is given."""

    worlds: WorldSpec | None = None
    """Procedural videos that are made from a seed."""
    folder: str | None = None
    """A folder of videos, searched recursively."""
    captions: str | None = None
    """A CSV or JSONL file with the columns `file` and `caption`, or `file_name` and `text`. Without it, captions come
    from `captions.csv`, `captions.jsonl` or `metadata.csv` in the folder, from the `.txt` file beside a video, or else
    from the file names."""
    frames: int = Field(17, ge=1)
    """Frames of the longest clip: 1 + 4k, because the VAE keeps the first frame and compresses the others by four."""
    fps: float = Field(8.0, gt=0)
    """Frames per second to which clips are resampled by nearest frame; slower videos keep their own rate."""
    pixels: int = Field(4096, ge=256)
    """Largest area of a clip, width times height. A larger video is scaled down and keeps its aspect ratio."""
    multiple: int = Field(16, ge=1)
    """Pixels of which width and height are multiples, rounded down: the VAE's spatial stride times the DiT's patch."""
    images: bool = False
    """Whether files of one frame are used, as clips of one frame."""
    holdout_every: int = Field(16, ge=2)
    """Every how many videos one is held out for validation and metrics, with its copies. Of fewer than eight held-out
    videos, the last part of every video's clips is held out instead."""

    @model_validator(mode="after")
    def _one_source(self) -> Self:
        if (self.worlds is None) == (self.folder is None):
            raise ValueError("give exactly one of 'worlds' and 'folder'")
        if self.frames % 4 != 1:
            raise ValueError(f"frames is {self.frames}, but must be 1 + 4k, such as {max(1, self.frames // 4 * 4 + 1)}")
        if self.worlds is not None:
            self._check_worlds(self.worlds)
        return self

    def _check_worlds(self, worlds: WorldSpec) -> None:
        """Raises ValueError where the clips of a size of worlds would be changed, skipped or all held out."""
        for number, shape in enumerate(worlds.sizes):
            where = f"worlds.shapes.{number}" if worlds.shapes else "worlds"
            for side in ("width", "height"):
                if getattr(shape, side) % self.multiple:
                    raise ValueError(f"{where}.{side} is {getattr(shape, side)}, which {self.multiple} does not divide")
            if worlds.shapes and shape.width * shape.height > self.pixels:
                raise ValueError(
                    f"{where} is {shape.width}x{shape.height}, {shape.width * shape.height} pixels, but 'pixels' is "
                    f"{self.pixels}: raise it"
                )
            if worlds.shapes and shape.frames == 1 and not self.images:
                raise ValueError(f"{where}.frames is 1, an image: set 'images' to true to count it")
            if worlds.shapes and 1 < shape.frames < 5:
                raise ValueError(f"{where}.frames is {shape.frames}, but a clip has 1 frame or at least 5")
        if gcd(len(worlds.sizes), self.holdout_every) > 1:
            raise ValueError(
                f"holdout_every is {self.holdout_every}, which would hold out only some of the {len(worlds.sizes)} "
                "worlds.shapes: give a number that shares no divisor with that"
            )
