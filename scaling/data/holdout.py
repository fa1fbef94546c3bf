"""Which clips are held out: no model trains on them; the validation loss and the metrics are measured on them."""

import math
from collections.abc import Mapping, Sequence
from itertools import groupby
from pathlib import Path
from types import MappingProxyType

from scaling.core.errors import UserError
from scaling.data.clips import Clip

FEWEST_VIDEOS = 8
"""Number of held-out videos from which on they are a sample of the data rather than a few scenes."""


NO_COPIES: Mapping[Path, Path] = MappingProxyType({})


def held_out_ordinals(
    clips: Sequence[Clip], holdout_every: int, copies: Mapping[Path, Path] = NO_COPIES
) -> frozenset[int]:
    """The ordinals of the held-out clips. Every k-th video is held out with all its clips and its `copies`, so no scene
    is on both sides. `copies` has for a file that is a copy the file that it is a copy of.

    Where that would be fewer than FEWEST_VIDEOS videos, the last k-th of the clips of every video that has at least two
    is held out instead, rounded up. The losses then say how well a model knows these scenes, not how well it would know
    other scenes. Raises UserError if there are fewer than two clips, or only copies of one.
    """
    if len(clips) < 2:
        raise UserError(f"only {len(clips)} clip, but one to train on and one to hold out are needed; give more videos")
    by_content: dict[Path, list[list[Clip]]] = {}
    for path, group in groupby(clips, key=lambda clip: clip.path):
        by_content.setdefault(copies.get(path, path), []).append(list(group))
    scenes = list(by_content.values())
    longer = [video for scene in scenes for video in scene if len(video) > 1]
    held_out_scenes = scenes[holdout_every - 1 :: holdout_every]
    if longer and len(held_out_scenes) < FEWEST_VIDEOS:
        held_out = [clip for video in longer for clip in video[-math.ceil(len(video) / holdout_every) :]]
    elif len(scenes) == 1:
        raise UserError(f"{clips[0].path}: all other videos are copies of it, and it gives only one clip; give others")
    else:
        held_out = [clip for scene in held_out_scenes or scenes[-1:] for video in scene for clip in video]
    return frozenset(clip.ordinal for clip in held_out)
