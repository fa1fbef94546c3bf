"""A video as one picture: some of its frames beside each other, as PNG."""

from pathlib import Path

import numpy as np
from PIL import Image

from scaling.core.store import replacing
from scaling.data.video import Frames

FRAMES = 9
"""Most frames in a strip."""
GAP = 2
"""White pixels between them."""


def write_strip(path: Path, frames: Frames) -> None:
    """Writes the first frame, the last, and others at even distances between them; a still is a picture of itself.

    Raises UserError if the disk is full.
    """
    shown = frames[np.linspace(0, len(frames) - 1, min(FRAMES, len(frames))).round().astype(int)]
    spaced = [np.pad(frame, ((0, 0), (0, GAP), (0, 0)), constant_values=255) for frame in shown]
    with replacing(path) as tmp:
        Image.fromarray(np.concatenate(spaced, axis=1)[:, :-GAP]).save(tmp, format="PNG")
