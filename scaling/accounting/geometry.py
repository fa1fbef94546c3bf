"""Sizes that the models and their closed forms share: from pixels to latents to tokens. Imports no torch."""

from scaling.core.specs import TextSpec, VAESpec

Grid = tuple[int, int, int]
"""Counts along t, h, w: of a clip's tokens, or of its latents."""

PIXEL_CHANNELS = 3
"""Red, green, blue."""
TEXT_DIM = TextSpec().width
"""Width of the default text encoder's token states."""
TIME_FEATURES = 128
"""Sinusoids that describe t_flow."""
POSITION_FEATURES = 24
"""Sinusoids that describe where a token lies in its clip: four octaves of sine and cosine on each axis."""


def latent_size(frames: int, height: int, width: int, vae: VAESpec) -> Grid:
    """Pixels -> latent size (t, h, w)."""
    return 1 + (frames - 1) // vae.temporal_stride, height // vae.spatial_stride, width // vae.spatial_stride


def token_grid(latent: Grid, patch: int) -> Grid:
    """Latent size (t, h, w) -> tokens along t, h, w; time is not patched."""
    t, h, w = latent
    return t, h // patch, w // patch
