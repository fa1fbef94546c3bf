"""One picture of a sweep: frames of the same prompts and seeds at each compute, beside the law and its forecast."""

from pathlib import Path

import av
import numpy as np
from matplotlib.figure import Figure
from matplotlib.image import imread
from numpy.typing import NDArray

from analysis.figures.style import INK
from analysis.report.data import ReportData
from scaling.core.errors import UserError

FRAMES = 4
"""Frames shown of each clip, evenly spread."""
PROMPTS = 4
GAP = 6
"""White pixels between clips."""


def overview_figure(data: ReportData, scaling: Path) -> Figure:
    """Rows are prompts, columns are computes, at the end of training; a missing clip is left out. On the right is the
    picture `scaling`, a PNG file. Raises UserError where the report has no clip."""
    clips = {(clip.compute, clip.prompt): clip.path for clip in data.clips if clip.fraction == max(data.fractions)}
    shown = [prompt for prompt in range(len(data.prompts)) if any(prompt == key[1] for key in clips)][:PROMPTS]
    if not any(clips.values()):
        raise UserError("there are no samples to show; the report's page says why")
    figure = Figure(figsize=(12.8, 3.6), layout="constrained")
    axes = figure.subplots(1, len(data.columns) + 1, width_ratios=[1.0] * len(data.columns) + [2.2])
    for axis, column in zip(axes, data.columns, strict=False):
        axis.imshow(_column([clips.get((column.compute, prompt)) for prompt in shown]), interpolation="lanczos")
        axis.set_title(column.compute, color=INK, fontsize=12, fontweight="bold")
    axes[-1].imshow(imread(scaling))
    for axis in axes:
        axis.axis("off")
    return figure


def _column(paths: list[Path | None]) -> NDArray[np.uint8]:
    """Strips of frames one under another, (h, w, 3); a missing clip leaves its place white."""
    strips = [None if path is None else _strip(path) for path in paths]
    drawn = [strip for strip in strips if strip is not None] or [np.full((64, 64 * FRAMES, 3), 255, np.uint8)]
    width = max(strip.shape[1] for strip in drawn)
    rows = []
    for strip in strips:
        row = np.full_like(drawn[0], 255) if strip is None else strip
        rows.append(np.pad(row, ((0, GAP), (0, width - row.shape[1]), (0, 0)), constant_values=255))
    return np.concatenate(rows)[:-GAP]


def _strip(path: Path) -> NDArray[np.uint8]:
    with av.open(str(path)) as container:
        frames = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
    shown = [frames[number] for number in np.linspace(0, len(frames) - 1, FRAMES).round().astype(int)]
    return np.concatenate([np.pad(frame, ((0, 0), (0, 2), (0, 0)), constant_values=255) for frame in shown], axis=1)
