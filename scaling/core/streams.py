"""Which random numbers are for what."""

from enum import IntEnum, unique


@unique
class Stream(IntEnum):
    """Second number of every seed, after a spec's own: what is drawn for one purpose never depends on another."""

    ORDER = 0
    """Clips of the DiT's updates."""
    NOISE = 1
    """Noise of the DiT's updates."""
    CROP = 2
    """Crops of the VAE's updates."""
    POSTERIOR = 3
    """Latents of the VAE's updates."""
    VALIDATION = 4
    GRID = 5
    """First noise of the sample grid."""
    FVD = 6
    """First noise of the clips that are measured."""
    TIMES = 7
    """Times, dropped captions and conditioning frames of the DiT's updates."""
    PERCEPTION = 8
    """Frames that the VAE's perceptual loss looks at."""
