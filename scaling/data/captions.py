"""What a caption is: the sentence that describes a video. Text only: `scaling.text` turns captions into tensors.

The caption of a procedural world names its objects and says what happens to them. The caption of a user's video comes
from a captions file or a text file beside it (`scaling.data.caption_files`) or, without one, from the name of the video
file. Every clip has the caption of its whole video.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from scaling.data.physics import Body


def world_caption(bodies: Sequence["Body"], *, moving: bool, gravity: bool, interacted: bool, layered: bool) -> str:
    """Describes what a world shows and nothing else. An image, which is not `moving`, has only its objects named.

    `interacted`: two objects collided or, in a `layered` world, the front object covered the rear one.
    """
    if not moving:
        return _object_names(bodies)
    where = "under gravity" if gravity else "without gravity"
    if layered and interacted:
        return f"{_object_names(bodies[:1])} passes in front of {_object_names(bodies[1:])} {where}"
    undisturbed = ("bounce" if gravity else "drift") + ("s" if len(bodies) == 1 else "")
    verb = "collide" if interacted else undisturbed
    return f"{_object_names(bodies)} {verb} {where}"


def file_caption(file: str, captions: Mapping[str, str]) -> str:
    """The caption of a user's video, by its path below the folder: from `captions`, or else the words of its name."""
    return captions.get(file) or " ".join(Path(file).stem.replace("_", " ").replace("-", " ").split())


def _object_names(bodies: Sequence["Body"]) -> str:
    """The objects with their colors, such as `a red ball and a blue box`."""
    *others, last = [f"a {body.color} {body.shape}" for body in bodies]
    return f"{', '.join(others)} and {last}" if others else last
