"""Which clips are held out: no model trains on them; the validation loss and the metrics are measured on them."""

import math
from collections.abc import Sequence
from itertools import groupby

from scaling.core.errors import UserError
from scaling.data.clips import Clip

FEWEST_VIDEOS = 8
"""Number of held-out videos from which on they are a sample of the data rather than a few scenes."""


def held_out_ordinals(clips: Sequence[Clip], holdout_every: int) -> frozenset[int]:
    """The ordinals of the held-out clips. Every k-th video is held out with all its clips, so no scene is on both
    sides.

    Where that would be fewer than FEWEST_VIDEOS videos, the last k-th of the clips of every video that has at least two
    is held out instead, rounded up. The losses then say how well a model knows these scenes, not how well it would know
    other scenes. Raises UserError if there are fewer than two clips.
    """
    if len(clips) < 2:
        raise UserError(f"only {len(clips)} clip, but one to train on and one to hold out are needed; give more videos")
    videos = [list(group) for _, group in groupby(clips, key=lambda clip: clip.path)]
    longer = [video for video in videos if len(video) > 1]
    held_out_videos = videos[holdout_every - 1 :: holdout_every]
    if longer and len(held_out_videos) < FEWEST_VIDEOS:
        held_out = [clip for video in longer for clip in video[-math.ceil(len(video) / holdout_every) :]]
    else:
        held_out = [clip for video in held_out_videos or videos[-1:] for clip in video]
    return frozenset(clip.ordinal for clip in held_out)
