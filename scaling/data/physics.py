"""How the objects of a world move: discs and upright squares that bounce elastically in a box. Exact event-driven
mechanics; nothing is drawn here.

Between two contacts every body flies on a parabola, and because gravity is the same for all of them, two bodies move
on a straight line relative to each other. So the next contact has a closed form, bodies never overlap, and energy is
conserved to rounding. Bodies are frictionless and do not rotate. Lengths are in short sides of the frame, y points
down, time is in seconds.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Literal

import numpy as np
from numpy.typing import NDArray

GRAVITY = 0.8
"""Short sides per second squared, in the worlds that have gravity."""

_GRAZE = 1e-9
"""Seconds by which rounding may put a contact into the past without it being ignored."""

_MOST_EVENTS = 100_000
"""Contacts within one frame above which the mechanics must be wrong, whatever the world."""


@dataclass(frozen=True)
class Body:
    """One object. All bodies have the same density, so mass is area."""

    shape: Literal["ball", "box"]
    color: str
    half: float
    """Radius of a ball, half a side of a box."""
    layer: int = 0
    """Depth: only bodies of one layer collide, and a lower layer is drawn in front of a higher one."""

    @property
    def mass(self) -> float:
        return math.pi * self.half**2 if self.shape == "ball" else 4 * self.half**2


@dataclass
class _Motion:
    x: float
    y: float
    vx: float
    vy: float

    def fly(self, seconds: float, gravity: float) -> None:
        self.x += self.vx * seconds
        self.y += self.vy * seconds + gravity / 2 * seconds**2
        self.vy += gravity * seconds


@dataclass(frozen=True)
class _Contact:
    """The next event: body `first` touches body `second`, or a wall where `second` is None."""

    seconds: float
    first: int
    second: int | None
    normal: tuple[float, float]
    """Unit vector from `first` to what it meets."""


def trajectory(
    bodies: Sequence[Body],
    start: NDArray[np.float64],  # (objects, 4)
    gravity: float,
    size: tuple[float, float],
    frames: int,
    fps: float,
) -> tuple[NDArray[np.float64], int]:
    """Moves the bodies from `start` (x, y, vx, vy) in a closed box of `size` (width, height).

    Returns the states at each frame, (t, objects, 4), and the number of collisions between two bodies.
    """
    motions = [_Motion(*map(float, row)) for row in start]
    states = np.empty((frames, len(bodies), 4))
    states[0] = start
    collisions = 0
    for frame in range(1, frames):
        remaining = 1 / fps
        for _ in range(_MOST_EVENTS):
            contact = _next_contact(bodies, motions, gravity, size)
            if contact is None or contact.seconds > remaining:
                break
            for motion in motions:
                motion.fly(contact.seconds, gravity)
            remaining -= contact.seconds
            collisions += _bounce(bodies, motions, contact, size)
        else:
            raise AssertionError(f"more than {_MOST_EVENTS} contacts in frame {frame}")
        for motion in motions:
            motion.fly(remaining, gravity)
        states[frame] = [(motion.x, motion.y, motion.vx, motion.vy) for motion in motions]
    return states, collisions


def energy(bodies: Sequence[Body], states: NDArray[np.float64], gravity: float) -> NDArray[np.float64]:
    """Kinetic plus potential energy of the whole world at each frame: (t, objects, 4) -> (t,)."""
    masses = np.array([body.mass for body in bodies])
    kinetic = (states[..., 2:] ** 2).sum(-1) / 2
    total: NDArray[np.float64] = (masses * (kinetic - gravity * states[..., 1])).sum(-1)
    return total


def gap_between(a: Body, b: Body, dx: float, dy: float) -> float:
    """Gap between two bodies whose centres differ by (dx, dy); negative where they overlap."""
    dx, dy = abs(dx), abs(dy)
    if a.shape == b.shape == "ball":
        return math.hypot(dx, dy) - a.half - b.half
    if a.shape == b.shape == "box":
        return max(dx, dy) - a.half - b.half
    box, ball = (a, b) if a.shape == "box" else (b, a)
    outside = math.hypot(max(dx - box.half, 0), max(dy - box.half, 0))
    inside = min(max(dx, dy) - box.half, 0)
    return outside + inside - ball.half


def _next_contact(
    bodies: Sequence[Body], motions: Sequence[_Motion], gravity: float, size: tuple[float, float]
) -> _Contact | None:
    contacts = []
    for i, (body, motion) in enumerate(zip(bodies, motions, strict=True)):
        sideways = 1.0 if motion.vx > 0 else -1.0
        wall = size[0] - body.half if motion.vx > 0 else body.half
        if motion.vx:
            contacts.append(_Contact(max((wall - motion.x) / motion.vx, 0), i, None, (sideways, 0.0)))
        ceiling = _rise(motion.y - body.half, motion.vy, gravity)
        if ceiling is not None:
            contacts.append(_Contact(ceiling, i, None, (0.0, -1.0)))
        floor = _fall(size[1] - body.half - motion.y, motion.vy, gravity)
        if floor is not None:
            contacts.append(_Contact(floor, i, None, (0.0, 1.0)))
    for i, j in combinations(range(len(bodies)), 2):
        if bodies[i].layer == bodies[j].layer:
            collision = _collision(bodies[i], bodies[j], motions[i], motions[j])
            if collision is not None:
                contacts.append(_Contact(collision[0], i, j, collision[1]))
    return min(contacts, key=lambda contact: contact.seconds, default=None)


def _rise(height: float, vy: float, gravity: float) -> float | None:
    """Seconds until a body that moves up has risen by `height`, or None if gravity turns it back before."""
    if vy >= 0:
        return None
    under_root = vy**2 - 2 * gravity * height
    return max(2 * height / (-vy + math.sqrt(under_root)), 0) if under_root >= 0 else None


def _fall(height: float, vy: float, gravity: float) -> float | None:
    """Seconds until a body has fallen by `height`, or None if it never does."""
    if gravity == 0:
        return max(height / vy, 0) if vy > 0 else None
    return max((-vy + math.sqrt(max(vy**2 + 2 * gravity * height, 0))) / gravity, 0)


def _collision(a: Body, b: Body, at: _Motion, bt: _Motion) -> tuple[float, tuple[float, float]] | None:
    """Seconds until two bodies touch, and the normal from a to b; None if they never do.

    In the frame of `a`, the centre of `b` is a point that flies straight at the Minkowski sum of both shapes: a disc, a
    square, or a square with rounded corners, which is two rectangles and four discs.
    """
    x, y, vx, vy = bt.x - at.x, bt.y - at.y, bt.vx - at.vx, bt.vy - at.vy
    reach = a.half + b.half
    if a.shape == b.shape == "ball":
        return _enter_disc(x, y, vx, vy, reach)
    if a.shape == b.shape == "box":
        return _enter_rectangle(x, y, vx, vy, reach, reach)
    box, ball = (a, b) if a.shape == "box" else (b, a)
    entries = [
        _enter_rectangle(x, y, vx, vy, reach, box.half),
        _enter_rectangle(x, y, vx, vy, box.half, reach),
        *(
            _enter_disc(x - corner_x, y - corner_y, vx, vy, ball.half)
            for corner_x in (-box.half, box.half)
            for corner_y in (-box.half, box.half)
        ),
    ]
    return min((entry for entry in entries if entry is not None), default=None)


def _enter_disc(x: float, y: float, vx: float, vy: float, radius: float) -> tuple[float, tuple[float, float]] | None:
    toward = -(x * vx + y * vy)
    gap = x * x + y * y - radius**2
    under_root = toward**2 - (vx * vx + vy * vy) * gap
    if toward <= 0 or under_root < 0:
        return None
    seconds = gap / (toward + math.sqrt(under_root))
    if seconds < -_GRAZE:
        return None
    seconds = max(seconds, 0)
    x, y = x + vx * seconds, y + vy * seconds
    length = math.hypot(x, y)
    return seconds, (x / length, y / length)


def _enter_rectangle(
    x: float, y: float, vx: float, vy: float, half_width: float, half_height: float
) -> tuple[float, tuple[float, float]] | None:
    enter_x, leave_x = _crossing(x, vx, half_width)
    enter_y, leave_y = _crossing(y, vy, half_height)
    seconds = max(enter_x, enter_y)
    if seconds < -_GRAZE or seconds >= min(leave_x, leave_y):
        return None
    # The side that is reached last is the one that is hit.
    normal = (-math.copysign(1, vx), 0.0) if enter_x > enter_y else (0.0, -math.copysign(1, vy))
    return max(seconds, 0), normal


def _crossing(position: float, velocity: float, half: float) -> tuple[float, float]:
    """When a point on a line enters and leaves the interval from -half to half."""
    if velocity == 0:
        return (-math.inf, math.inf) if abs(position) < half else (math.inf, -math.inf)
    times = (-half - position) / velocity, (half - position) / velocity
    return min(times), max(times)


def _bounce(bodies: Sequence[Body], motions: Sequence[_Motion], contact: _Contact, size: tuple[float, float]) -> bool:
    """Reflects the velocities along the normal. True if the contact was between two bodies."""
    first, (nx, ny) = motions[contact.first], contact.normal
    if contact.second is None:
        half = bodies[contact.first].half
        if nx:
            first.x, first.vx = (size[0] - half if nx > 0 else half), -nx * abs(first.vx)
        else:
            first.y, first.vy = (size[1] - half if ny > 0 else half), -ny * abs(first.vy)
        return False
    second = motions[contact.second]
    closing = (first.vx - second.vx) * nx + (first.vy - second.vy) * ny
    mass, other_mass = bodies[contact.first].mass, bodies[contact.second].mass
    impulse = 2 * max(closing, 0) * mass * other_mass / (mass + other_mass)
    first.vx -= impulse / mass * nx
    first.vy -= impulse / mass * ny
    second.vx += impulse / other_mass * nx
    second.vy += impulse / other_mass * ny
    return True
