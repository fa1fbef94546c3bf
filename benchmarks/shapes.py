"""The sizes at which transformers meet: a model of ours, a batch of clips, and the image of as many tokens."""

from dataclasses import dataclass
from math import prod

from scaling.geometry import Grid
from scaling.presets import dit_preset
from scaling.specs import DiTSpec

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


# Depths are even, because Latte's blocks come in pairs. An image case follows each video case: DiT knows only squares.
CPU_SHAPES = (
    Shape("w96d4", (5, 4, 4), 16),
    Shape("w96d4", (1, 9, 9), 16),
    Shape("w256d8", (5, 4, 4), 8),
    Shape("w256d8", (1, 9, 9), 8),
    Shape("w256d8", (9, 8, 8), 2),
    Shape("w256d8", (1, 24, 24), 2),
    Shape("S", (5, 8, 8), 2),
    Shape("S", (1, 18, 18), 2),
)

CUDA_SHAPES = tuple(
    Shape(model, grid, clips)
    for model, clips in (("S", 64), ("B", 32), ("L", 16), ("XL", 16))
    for grid in ((4, 16, 16), (1, 32, 32))
)
