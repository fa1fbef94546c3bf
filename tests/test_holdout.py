"""Which clips are held out."""

from pathlib import Path

import pytest

from scaling.core.errors import UserError
from scaling.data.clips import Clip
from scaling.data.holdout import held_out_ordinals


def make_clips(*counts: int) -> list[Clip]:
    """Clips of several videos; `counts` is the number of clips of each."""
    files = [Path(f"{number}.mp4") for number, count in enumerate(counts) for _ in range(count)]
    return [Clip(file, 0, 5, 8.0, 16, 16, "", ordinal) for ordinal, file in enumerate(files)]


@pytest.mark.parametrize(
    ("counts", "every", "expected"),
    [
        ([4] * 128, 16, {f"{number}.mp4" for number in range(15, 128, 16)}),
        ([1] * 32, 16, {"15.mp4", "31.mp4"}),
        ([1, 1, 1], 16, {"2.mp4"}),
    ],
)
def test_whole_videos_are_held_out(counts: list[int], every: int, expected: set[str]) -> None:
    clips = make_clips(*counts)
    held_out = held_out_ordinals(clips, every)
    assert {str(clip.path) for clip in clips if clip.ordinal in held_out} == expected
    assert not {str(clip.path) for clip in clips if clip.ordinal not in held_out} & expected


@pytest.mark.parametrize(
    ("counts", "every", "expected"),
    [([5], 2, [2, 3, 4]), ([5, 1, 2], 4, [3, 4, 7]), ([2] * 8, 8, list(range(1, 16, 2)))],
)
def test_of_few_videos_the_last_clips_are_held_out(counts: list[int], every: int, expected: list[int]) -> None:
    assert sorted(held_out_ordinals(make_clips(*counts), every)) == expected


def test_one_clip_is_too_few() -> None:
    with pytest.raises(UserError, match="only 1 clip"):
        held_out_ordinals(make_clips(1), 2)


@pytest.mark.parametrize(
    ("counts", "every", "copies", "expected"),
    [
        ([1] * 6, 2, {4: 1}, {1, 3, 4}),  # 0, 1 with 4, 2, 3, 5: every second of these five
        ([1] * 6, 2, {1: 0, 3: 0, 5: 0}, {2}),
        ([1] * 3, 16, {2: 1}, {1, 2}),  # the last
        ([4] * 20, 2, {19: 0}, {1, 3, 5, 7, 9, 11, 13, 15, 17}),
    ],
)
def test_copies_stay_on_one_side(counts: list[int], every: int, copies: dict[int, int], expected: set[int]) -> None:
    clips = make_clips(*counts)
    paths = {Path(f"{copy}.mp4"): Path(f"{original}.mp4") for copy, original in copies.items()}
    held_out = held_out_ordinals(clips, every, paths)
    assert {int(clip.path.stem) for clip in clips if clip.ordinal in held_out} == expected
    assert not {int(clip.path.stem) for clip in clips if clip.ordinal not in held_out} & expected


def test_of_few_videos_the_same_clips_of_copies_are_held_out() -> None:
    clips = make_clips(3, 1, 3)
    assert sorted(held_out_ordinals(clips, 2, {Path("2.mp4"): Path("0.mp4")})) == [1, 2, 5, 6]


def test_copies_of_one_clip_are_too_few() -> None:
    with pytest.raises(UserError, match=r"0.mp4: all other videos are copies of it"):
        held_out_ordinals(make_clips(1, 1), 2, {Path("1.mp4"): Path("0.mp4")})
