"""The sizes at which models meet: transformers at a batch of clips and at the image of as many tokens, VAEs at a clip,
and the mixed clips that are packed or padded."""

from dataclasses import dataclass
from math import prod

from scaling.accounting.geometry import Grid
from scaling.accounting.presets import dit_preset
from scaling.core.specs import DiTSpec

CHANNELS = 16
"""Latent channels of the base VAE."""
TEXT_TOKENS = 32


@dataclass(frozen=True)
class Shape:
    """A batch of equal clips and the transformer that reads it."""

    model: str
    """Name of the preset."""
    grid: Grid
    """Tokens of a clip along t, h, w."""
    clips: int

    @property
    def dit(self) -> DiTSpec:
        return dit_preset(self.model)

    @property
    def name(self) -> str:
        return f"{self.model} {self.clips}x({'x'.join(map(str, self.grid))})"

    @property
    def tokens(self) -> int:
        return self.clips * prod(self.grid)

    @property
    def latent(self) -> Grid:
        """Latent size (t, h, w) of a clip."""
        t, h, w = self.grid
        return t, h * self.dit.patch, w * self.dit.patch


# Depths are even, because Latte's blocks come in pairs. Images are squares of as many tokens, which is all DiT knows.
CPU_SHAPES = (
    Shape("w96d4", (5, 4, 4), 16),
    Shape("w96d4", (1, 9, 9), 16),
    Shape("w256d8", (5, 4, 4), 8),
    Shape("w256d8", (1, 9, 9), 8),
    Shape("w256d8", (9, 8, 8), 2),
    Shape("S", (5, 8, 8), 2),
)

CUDA_SHAPES = tuple(
    Shape(model, grid, clips)
    for model, clips in (("S", 64), ("B", 32), ("L", 16), ("XL", 16))
    for grid in ((4, 16, 16), (1, 32, 32))
)


@dataclass(frozen=True)
class VideoShape:
    """A clip for the VAEs, which are all of Wan's class (`base`)."""

    frames: int
    height: int
    width: int

    @property
    def name(self) -> str:
        return f"base {self.frames}x{self.height}x{self.width}"

    @property
    def pixels(self) -> int:
        return self.frames * self.height * self.width


CPU_VIDEOS = (VideoShape(1, 96, 96), VideoShape(9, 64, 64))
CUDA_VIDEOS = (VideoShape(1, 1024, 1024), VideoShape(17, 480, 832))


@dataclass(frozen=True)
class MixedShape:
    """Clips of eight sizes in equal numbers, a budget of tokens for each batch, and the transformer that reads it."""

    model: str
    grids: tuple[Grid, ...]
    budget: int

    @property
    def dit(self) -> DiTSpec:
        return dit_preset(self.model)

    @property
    def name(self) -> str:
        return f"{self.model} {self.budget} tokens of {len(self.grids)} sizes"


NATIVE = ((1, 4, 4), (1, 3, 6), (2, 4, 4), (3, 2, 4), (3, 4, 2), (5, 3, 3), (5, 4, 4), (9, 2, 2))
"""Tokens along t, h, w of the clips of the shipped sweep `native`: images, and videos of several sizes."""

CPU_MIXES = (MixedShape("w96d4", NATIVE, 1280), MixedShape("w256d8", NATIVE, 1280))
CUDA_MIXES = tuple(
    MixedShape(model, tuple((t, 4 * h, 4 * w) for t, h, w in NATIVE), 32768) for model in ("S", "B", "L", "XL")
)
