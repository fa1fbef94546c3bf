"""Sizes that the models and the accounting of their costs share: from pixels to latents to tokens. Imports no torch."""

from scaling.core.specs import TextSpec, VAESpec

Grid = tuple[int, int, int]
"""Numbers of tokens, or of latents, of a clip along t, h and w."""

PIXEL_CHANNELS = 3
"""Channels of a video: red, green and blue."""
TEXT_DIM = TextSpec().width
"""Width of the default text encoder's token states."""
TIME_FEATURES = 128
"""Number of sinusoids that describe t_flow."""
POSITION_FEATURES = 24
"""Number of sinusoids that describe where a token lies in its clip: four octaves of sine and cosine on each axis."""


def latent_size(frames: int, height: int, width: int, vae: VAESpec) -> Grid:
    """Pixels -> latent size (t, h, w)."""
    return 1 + (frames - 1) // vae.temporal_stride, height // vae.spatial_stride, width // vae.spatial_stride


def token_grid(latent: Grid, patch: int) -> Grid:
    """Latent size (t, h, w) -> tokens along t, h, w; time is not patched."""
    t, h, w = latent
    return t, h // patch, w // patch
