"""A film strip: a video as one PNG image, with some of its frames side by side."""

from pathlib import Path

import numpy as np
from PIL import Image

from scaling.core.store import replacing
from scaling.data.video import Frames

FRAMES = 9
"""Largest number of frames in a strip."""
GAP = 2
"""White pixels between two frames."""


def write_film_strip(path: Path, frames: Frames) -> None:
    """Writes the first frame, the last, and others at even distances between them. A still image is written as it is.

    Raises UserError if the disk is full.
    """
    shown = frames[np.linspace(0, len(frames) - 1, min(FRAMES, len(frames))).round().astype(int)]
    spaced = [np.pad(frame, ((0, 0), (0, GAP), (0, 0)), constant_values=255) for frame in shown]
    with replacing(path) as tmp:
        Image.fromarray(np.concatenate(spaced, axis=1)[:, :-GAP]).save(tmp, format="PNG")
