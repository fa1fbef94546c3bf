"""The worlds: their captions and pictures against their true states, and their dependence on the seed."""

import hashlib
import json
import re

import numpy as np
import pytest

from scaling.core.specs import WorldShape, WorldSpec
from scaling.data.physics import trajectory
from scaling.data.worlds import COLORS, World, render, simulate

LONG = WorldSpec(frames=240, max_objects=6, width=96, height=64)

SHAPES = tuple(
    WorldShape(frames=frames, height=height, width=width)
    for frames, height, width in ((1, 48, 96), (5, 64, 64), (13, 96, 32), (33, 32, 32))
)
MIXED = WorldSpec(count=12, shapes=SHAPES)
"""Worlds of four sizes, one of them an image."""


def pixels_of(picture: np.ndarray, color: str) -> int:
    """The number of pixels of (h, w, 3) that have exactly this color."""
    return int((np.abs(picture.astype(int) - COLORS[color]).max(-1) <= 2).sum())


def worlds(spec: WorldSpec, count: int) -> list[World]:
    return [simulate(spec, index) for index in range(count)]


def test_a_world_depends_on_seed_and_index_alone() -> None:
    few, many = WorldSpec(count=4, frames=20), WorldSpec(count=4000, frames=20)
    for index in (0, 3):
        among_few, among_many = simulate(few, index), simulate(many, index)
        assert among_few.bodies == among_many.bodies
        assert among_few.caption == among_many.caption
        np.testing.assert_array_equal(among_few.states, among_many.states)
    assert not np.array_equal(simulate(few, 0).states[:, 0], simulate(few, 1).states[:, 0])
    assert not np.array_equal(simulate(few, 0).states[:, 0], simulate(WorldSpec(seed=1, frames=20), 0).states[:, 0])


def test_in_layered_worlds_only_the_rear_object_is_hidden() -> None:
    layered = [world for world in worlds(WorldSpec(), 200) if world.layered]
    assert layered
    for world in layered:
        front, rear = world.bodies
        assert (front.layer, rear.layer) == (0, 1)
        assert world.caption.startswith(f"a {front.color} {front.shape} passes in front of a {rear.color} ")
        pictures = render(world)
        seen_front = [pixels_of(picture, front.color) for picture in pictures]
        seen_rear = [pixels_of(picture, rear.color) for picture in pictures]
        assert min(seen_rear) < 0.75 * max(seen_rear)
        assert min(seen_front) > 0.85 * max(seen_front)


def test_one_pair_in_six_is_layered_and_half_the_worlds_have_gravity() -> None:
    sample = worlds(WorldSpec(frames=17), 1200)
    pairs = [world for world in sample if len(world.bodies) == 2]
    assert sum(world.layered for world in pairs) / len(pairs) == pytest.approx(1 / 6, abs=0.05)
    assert sum(world.gravity > 0 for world in sample) / len(sample) == pytest.approx(1 / 2, abs=0.05)
    assert not any(world.layered for world in sample if len(world.bodies) != 2)


@pytest.mark.parametrize("spec", [WorldSpec(), WorldSpec(frames=5), LONG])
def test_captions_name_the_objects_and_what_happens(spec: WorldSpec) -> None:
    size = spec.width / min(spec.width, spec.height), spec.height / min(spec.width, spec.height)
    for world in worlds(spec, 60):
        named = re.findall(r"a (\w+) (ball|box)", world.caption)
        assert named == [(body.color, body.shape) for body in world.bodies]
        assert len({color for color, _ in named}) == len(named)
        assert world.caption.endswith("under gravity" if world.gravity else "without gravity")
        _, collisions = trajectory(world.bodies, world.states[0], world.gravity, size, spec.frames, spec.fps)
        assert ("collide" in world.caption) == (collisions > 0)
        if "passes" in world.caption:
            assert world.layered
        if len(world.bodies) == 1:
            assert world.caption.split()[3] == ("bounces" if world.gravity else "drifts")


def test_pictures_show_the_states() -> None:
    spec = WorldSpec(frames=9, width=96, height=64)
    for world in worlds(spec, 20):
        pictures = render(world)
        assert pictures.shape == (9, 64, 96, 3)
        assert pictures.dtype == np.uint8
        for picture, state in zip(pictures, world.states, strict=True):
            x, y = state[0, :2] * 64  # the first body is never hidden
            np.testing.assert_array_equal(picture[int(y), int(x)], COLORS[world.bodies[0].color])
        if len(world.bodies) == 1:
            half = world.bodies[0].half * 64
            area = np.pi * half**2 if world.bodies[0].shape == "ball" else 4 * half**2
            covered = (np.abs(pictures[0].astype(float) - world.gray).max(-1) > 60).sum()
            assert covered == pytest.approx(area, rel=0.12)
            assert (pictures[0, [0, 0, -1, -1], [0, -1, 0, -1]] == world.gray).sum() >= 9


def test_a_large_world_is_painted_in_parts_without_a_seam() -> None:
    world = simulate(WorldSpec(frames=6, width=640, height=480), 3)
    pictures = render(world)
    later = World(**{**vars(world), "states": world.states[5:]})
    np.testing.assert_array_equal(pictures[5:], render(later))


def test_worlds_are_those_of_the_first_version() -> None:
    """Captions and states are those of version 0.1.0, so the same spec still makes the same worlds."""
    digest = hashlib.sha256()
    for spec in (WorldSpec(frames=24), WorldSpec(frames=9, width=96, height=48, max_objects=6, seed=3)):
        for world in worlds(spec, 20):
            row = [world.caption, world.gray, (world.states.round(6) + 0.0).tolist()]
            digest.update(json.dumps(row).encode())
    assert digest.hexdigest().startswith("4ea2929e5a55fbf6")


def test_worlds_take_their_sizes_in_turn() -> None:
    for index, world in enumerate(worlds(MIXED, 12)):
        shape = SHAPES[index % 4]
        assert render(world).shape == (shape.frames, shape.height, shape.width, 3)
        alone = WorldSpec(frames=shape.frames, height=shape.height, width=shape.width)
        np.testing.assert_array_equal(world.states, simulate(alone, index).states)


@pytest.mark.parametrize(("height", "width"), [(32, 128), (128, 32), (48, 80), (64, 64)])
def test_objects_scale_with_the_shorter_side_and_walls_are_at_the_frame(height: int, width: int) -> None:
    spec = WorldSpec(shapes=(WorldShape(frames=400, height=height, width=width),), max_objects=1)
    short = min(height, width)
    reach = np.array([width, height]) / short
    for world in [world for world in worlds(spec, 12) if not world.gravity][:4]:
        half, places = world.bodies[0].half, world.states[:, 0, :2]
        assert 0.13 <= half <= 0.21
        velocities, step = world.states[:, 0, 2:], 0.8 / spec.fps
        assert (places >= half - 1e-9).all()
        assert (places <= reach - half + 1e-9).all()
        turned, axis = np.nonzero(velocities[1:] * velocities[:-1] < 0)
        to_wall = np.minimum(places - half, reach - half - places)
        assert len(turned) > 2
        assert to_wall[turned, axis].max() <= step
        # as tall as wide in pixels, wherever the frame does not cut it
        covered = np.abs(render(world)[0].astype(float) - world.gray).max(-1) > 60
        rows, columns = np.flatnonzero(covered.any(1)), np.flatnonzero(covered.any(0))
        assert abs(np.ptp(rows) - np.ptp(columns)) <= 1
        assert np.ptp(rows) + 1 == pytest.approx(2 * half * short, abs=2)


def test_the_caption_of_an_image_names_its_objects_alone() -> None:
    for world in worlds(WorldSpec(frames=1), 30):
        assert world.caption == " and ".join(f"a {body.color} {body.shape}" for body in world.bodies)
