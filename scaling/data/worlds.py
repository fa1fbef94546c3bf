"""Procedural two-dimensional worlds: which objects are in them, their true states over time, and their pictures.

A world is a value that follows from (seed, index) and the size alone. Its true states are kept, so that the physics of
a generated video can be compared with the truth. The motion is in `scaling.data.physics`, the caption in
`scaling.data.captions`, and writing worlds as video files in `scaling.data.world_files`.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from scaling.core.specs import WorldSpec
from scaling.data.captions import world_caption
from scaling.data.physics import GRAVITY, Body, gap_between, trajectory

COLORS = {
    "red": (225, 45, 40),
    "green": (45, 190, 60),
    "blue": (50, 85, 235),
    "yellow": (240, 215, 45),
    "magenta": (220, 60, 215),
    "cyan": (50, 215, 225),
}

_HALF = (
    0.13,
    0.21,
)  # half an object, in short sides of the frame; below 0.13 a ball and a box look alike at 64 x 64 pixels
_SPEED = (0.2, 0.8)  # short sides per second
_GRAY = (40, 90)
_LAYERED = 1 / 6  # share of the worlds with two objects in which one passes in front of the other
_EDGE = 1.25  # width of an edge in pixels
_TRIES = 32  # starts that are tried before a world whose objects do not interact is accepted


@dataclass(frozen=True, eq=False)
class World:
    """A world with its whole course. Objects in front come first."""

    bodies: tuple[Body, ...]
    gravity: float
    """Downward acceleration in short sides per second squared; 0 without gravity."""
    states: NDArray[np.float64]
    """(t, objects, 4): x, y, vx, vy in short sides and seconds, from the upper left corner, y down."""
    caption: str
    gray: int
    """Gray level of the background, 0 to 255."""
    width: int
    height: int
    fps: int

    @property
    def layered(self) -> bool:
        """Whether one object hides another instead of colliding with it."""
        return any(body.layer for body in self.bodies)


def simulate(spec: WorldSpec, index: int) -> World:
    """World `index` of a spec. Its random draws depend on (spec.seed, index) alone, not on the number of worlds.

    Sizes and speeds are in units of the frame's shorter side. The sides of the frame are the walls.
    """
    rng = np.random.default_rng([spec.seed, index])
    count = int(rng.integers(1, spec.max_objects + 1))
    colors = rng.permutation(list(COLORS))[:count]
    layered = count == 2 and rng.random() < _LAYERED
    gravity = GRAVITY if rng.random() < 0.5 else 0.0
    crowding = min(1.0, (2 / count) ** 0.5)  # many objects share the area that two would cover
    bodies = tuple(
        Body(
            shape="ball" if rng.random() < 0.5 else "box",
            color=str(color),
            half=float(rng.uniform(*_HALF)) * crowding,
            layer=layer if layered else 0,
        )
        for layer, color in enumerate(colors)
    )
    gray = int(rng.integers(*_GRAY))
    shape = spec.shape(index)
    short = min(shape.width, shape.height)
    size = shape.width / short, shape.height / short
    for _ in range(_TRIES):
        start = _start(rng, bodies, size)
        states, collisions = trajectory(bodies, start, gravity, size, shape.frames, spec.fps)
        interacted = _covers(bodies, states) if layered else collisions > 0
        if interacted or count == 1:
            break
    caption = world_caption(
        bodies, moving=shape.frames > 1, gravity=gravity > 0, interacted=interacted, layered=layered
    )
    return World(bodies, gravity, states, caption, gray, shape.width, shape.height, spec.fps)


def render(world: World) -> NDArray[np.uint8]:
    """The pictures of a world, (t, h, w, 3) uint8, with soft edges."""
    return np.concatenate([_paint(world, states) for states in _parts_of_states(world)])


def _parts_of_states(world: World) -> list[NDArray[np.float64]]:
    """States in parts of about a million pixels of video, which limits the memory at any size."""
    frames = max(1, 2**20 // (world.width * world.height))
    return [world.states[first : first + frames] for first in range(0, len(world.states), frames)]


def _paint(world: World, states: NDArray[np.float64]) -> NDArray[np.uint8]:
    short = min(world.width, world.height)
    columns = (np.arange(world.width, dtype=np.float32) + 0.5) / short
    rows = (np.arange(world.height, dtype=np.float32) + 0.5) / short
    picture = np.full((3, len(states), world.height, world.width), world.gray, np.float32)
    for body, state in reversed(list(zip(world.bodies, states.swapaxes(0, 1).astype(np.float32), strict=True))):
        dx = np.abs(columns - state[:, 0, None])[:, None, :]  # (t, 1, w)
        dy = np.abs(rows - state[:, 1, None])[:, :, None]  # (t, h, 1)
        distance = np.sqrt(dx**2 + dy**2) if body.shape == "ball" else np.maximum(dx, dy)  # (t, h, w)
        cover = np.clip(0.5 + (np.float32(body.half) - distance) * np.float32(short / _EDGE), 0, 1)
        for channel, value in zip(picture, COLORS[body.color], strict=True):
            channel += cover * (value - channel)
    return np.moveaxis((picture + 0.5).astype(np.uint8), 0, -1)


def _start(rng: np.random.Generator, bodies: tuple[Body, ...], size: tuple[float, float]) -> NDArray[np.float64]:
    """Random positions that do not overlap, and random velocities: (objects, 4)."""
    halves = np.array([body.half for body in bodies])[:, None]
    while True:
        places = rng.uniform(halves, np.array(size) - halves)
        gaps = [
            gap_between(bodies[i], bodies[j], *(places[j] - places[i])) for i, j in combinations(range(len(bodies)), 2)
        ]
        if min(gaps, default=1.0) > 0:
            break
    speed = rng.uniform(*_SPEED, size=len(bodies))
    angle = rng.uniform(0, 2 * np.pi, size=len(bodies))
    return np.column_stack([places, speed * np.cos(angle), speed * np.sin(angle)])


def _covers(bodies: tuple[Body, ...], states: NDArray[np.float64]) -> bool:
    """Whether the front object covers a large part of the rear one in some frame."""
    distance = np.abs(states[:, 0, :2] - states[:, 1, :2]).max(-1)
    return bool(distance.min() < 0.5 * (bodies[0].half + bodies[1].half))
