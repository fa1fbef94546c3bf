"""The worlds: mechanics against conservation laws, pictures and captions against states, files against each other."""

import hashlib
import json
import re
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest

from scaling.core.errors import UserError
from scaling.core.specs import DataSpec, WorldShape, WorldSpec
from scaling.data.clips import list_clips, read, split, world_clips
from scaling.data.index import index_folder
from scaling.data.make import make_worlds
from scaling.data.physics import Body, apart, energy, trajectory
from scaling.data.worlds import COLOURS, World, render, simulate

LONG = WorldSpec(frames=240, max_objects=6, width=96, height=64)

SHAPES = tuple(
    WorldShape(frames=frames, height=height, width=width)
    for frames, height, width in ((1, 48, 96), (5, 64, 64), (13, 96, 32), (33, 32, 32))
)
MIXED = WorldSpec(count=12, shapes=SHAPES)


def hash_of(folder: Path) -> dict[str, str]:
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def pixels_of(picture: np.ndarray, colour: str) -> int:
    """Pixels of (h, w, 3) that have just this colour."""
    return int((np.abs(picture.astype(int) - COLOURS[colour]).max(-1) <= 2).sum())


def worlds(spec: WorldSpec, count: int) -> list[World]:
    return [simulate(spec, index) for index in range(count)]


def test_a_world_depends_on_seed_and_index_alone() -> None:
    few, many = WorldSpec(count=4, frames=20), WorldSpec(count=4000, frames=20)
    for index in (0, 3):
        one, other = simulate(few, index), simulate(many, index)
        assert one.bodies == other.bodies
        assert one.caption == other.caption
        np.testing.assert_array_equal(one.states, other.states)
    assert not np.array_equal(simulate(few, 0).states[:, 0], simulate(few, 1).states[:, 0])
    assert not np.array_equal(simulate(few, 0).states[:, 0], simulate(WorldSpec(seed=1, frames=20), 0).states[:, 0])


@pytest.mark.parametrize("index", range(24))
def test_long_worlds_keep_their_energy_their_walls_and_their_distance(index: int) -> None:
    world = simulate(LONG, index)
    total = energy(world.bodies, world.states, world.gravity)
    assert np.ptp(total) < 1e-9
    for number, body in enumerate(world.bodies):
        places = world.states[:, number, :2]
        assert (places >= body.half - 1e-9).all()
        assert (places <= np.array([1.5, 1.0]) - body.half + 1e-9).all()
    for i, j in combinations(range(len(world.bodies)), 2):
        if world.bodies[i].layer == world.bodies[j].layer:
            offsets = world.states[:, j, :2] - world.states[:, i, :2]
            assert min(apart(world.bodies[i], world.bodies[j], *offset) for offset in offsets) > -1e-9


@pytest.mark.parametrize("shapes", [("ball", "ball"), ("box", "box"), ("ball", "box")])
def test_a_collision_exchanges_momentum(shapes: tuple) -> None:
    bodies = [Body(shape, "red", half) for shape, half in zip(shapes, (0.1, 0.2), strict=True)]
    start = np.array([[0.5, 1.0, 0.6, 0.05], [1.2, 1.05, -0.3, 0.0]])
    states, collisions = trajectory(bodies, start, gravity=0.0, size=(2.0, 2.0), frames=12, fps=10)
    momenta = states[..., 2:] * np.array([body.mass for body in bodies])[:, None]  # (t, objects, 2)
    assert collisions == 1
    np.testing.assert_allclose(momenta.sum(1), np.broadcast_to(momenta[0].sum(0), (12, 2)), atol=1e-12)
    assert momenta[-1, 0, 0] < 0 < momenta[0, 0, 0]  # the light one is thrown back


def test_equal_balls_head_on_swap_velocities() -> None:
    bodies = [Body("ball", "red", 0.1), Body("ball", "blue", 0.1)]
    start = np.array([[0.5, 1.0, 0.4, 0.0], [1.1, 1.0, -0.2, 0.0]])
    states, _ = trajectory(bodies, start, gravity=0.0, size=(2.0, 2.0), frames=11, fps=10)
    np.testing.assert_allclose(states[-1, :, 2], [-0.2, 0.4], atol=1e-12)
    # they touch after 0.4 / 0.6 s, at 0.5 + 0.4 * 2/3 and 1.1 - 0.2 * 2/3
    np.testing.assert_allclose(states[-1, :, 0], [0.7666666667 - 0.2 / 3, 0.9666666667 + 0.4 / 3], atol=1e-9)


def test_a_ball_falls_as_galileo_says_and_comes_back() -> None:
    ball = [Body("ball", "red", 0.1)]
    gravity, fps = 0.8, 100
    states, _ = trajectory(ball, np.array([[0.5, 0.4, 0.0, 0.0]]), gravity, (1.0, 1.0), frames=301, fps=fps)
    seconds = np.arange(100) / fps  # the floor is 0.5 below: reached after 1.118 s
    np.testing.assert_allclose(states[:100, 0, 1], 0.4 + gravity / 2 * seconds**2, atol=1e-12)
    period = 2 * np.sqrt(2 * 0.5 / gravity)
    assert states[round(period * fps), 0, 1] == pytest.approx(0.4, abs=1e-4)


def test_layered_worlds_hide_the_rear_object_and_never_the_front_one() -> None:
    layered = [world for world in worlds(WorldSpec(), 200) if world.layered]
    assert layered
    for world in layered:
        front, rear = world.bodies
        assert (front.layer, rear.layer) == (0, 1)
        assert world.caption.startswith(f"a {front.colour} {front.shape} passes in front of a {rear.colour} ")
        pictures = render(world)
        seen_front = [pixels_of(picture, front.colour) for picture in pictures]
        seen_rear = [pixels_of(picture, rear.colour) for picture in pictures]
        assert min(seen_rear) < 0.75 * max(seen_rear)
        assert min(seen_front) > 0.85 * max(seen_front)


def test_one_pair_in_six_is_layered_and_half_the_worlds_have_gravity() -> None:
    sample = worlds(WorldSpec(frames=17), 1200)
    pairs = [world for world in sample if len(world.bodies) == 2]
    assert sum(world.layered for world in pairs) / len(pairs) == pytest.approx(1 / 6, abs=0.05)
    assert sum(world.gravity > 0 for world in sample) / len(sample) == pytest.approx(1 / 2, abs=0.05)
    assert not any(world.layered for world in sample if len(world.bodies) != 2)


@pytest.mark.parametrize("spec", [WorldSpec(), WorldSpec(frames=5), LONG])
def test_captions_say_what_is_there_and_what_happens(spec: WorldSpec) -> None:
    size = spec.width / min(spec.width, spec.height), spec.height / min(spec.width, spec.height)
    for world in worlds(spec, 60):
        named = re.findall(r"a (\w+) (ball|box)", world.caption)
        assert named == [(body.colour, body.shape) for body in world.bodies]
        assert len({colour for colour, _ in named}) == len(named)
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
            np.testing.assert_array_equal(picture[int(y), int(x)], COLOURS[world.bodies[0].colour])
        if len(world.bodies) == 1:
            half = world.bodies[0].half * 64
            area = np.pi * half**2 if world.bodies[0].shape == "ball" else 4 * half**2
            covered = (np.abs(pictures[0].astype(float) - world.grey).max(-1) > 60).sum()
            assert covered == pytest.approx(area, rel=0.12)
            assert (pictures[0, [0, 0, -1, -1], [0, -1, 0, -1]] == world.grey).sum() >= 9


def test_a_long_large_world_is_painted_in_portions_without_a_seam() -> None:
    world = simulate(WorldSpec(frames=6, width=640, height=480), 3)
    pictures = render(world)
    alone = World(**{**vars(world), "states": world.states[5:]})
    np.testing.assert_array_equal(pictures[5:], render(alone))


def test_files_are_the_same_whatever_the_number_of_processes(tmp_path: Path) -> None:
    spec = WorldSpec(count=12, frames=12)
    make_worlds(tmp_path / "one", spec, processes=1)
    make_worlds(tmp_path / "two", spec, processes=2)
    assert hash_of(tmp_path / "one") == hash_of(tmp_path / "two")
    rows = [json.loads(line) for line in (tmp_path / "one" / "captions.jsonl").read_text().splitlines()]
    assert [row["caption"] for row in rows] == [world.caption for world in worlds(spec, 12)]
    truth = json.loads((tmp_path / "one" / "states.jsonl").read_text().splitlines()[7])
    np.testing.assert_allclose(truth["states"], simulate(spec, 7).states, atol=1e-6)


def test_a_killed_run_goes_on_and_keeps_what_is_whole(tmp_path: Path) -> None:
    spec = WorldSpec(count=6, frames=9)

    def die(done: int, total: int) -> None:
        if done == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        make_worlds(tmp_path / "killed", spec, die, processes=1)
    kept = sorted((tmp_path / "killed" / "videos").glob("*.mp4"))
    assert len(kept) == 3
    times = [path.stat().st_mtime_ns for path in kept]
    (tmp_path / "killed" / "videos" / ".000003.mp4.1.0badf00d.tmp.mp4").write_bytes(b"half a file")
    make_worlds(tmp_path / "killed", spec, processes=1)
    make_worlds(tmp_path / "whole", spec, processes=1)
    assert [path.stat().st_mtime_ns for path in kept] == times
    (tmp_path / "killed" / "videos" / ".000003.mp4.1.0badf00d.tmp.mp4").unlink()
    assert hash_of(tmp_path / "killed") == hash_of(tmp_path / "whole")


def test_a_run_killed_before_its_first_file_can_be_run_again(tmp_path: Path) -> None:
    (tmp_path / ".worlds.json.12.0badf00d.tmp.json").write_bytes(b'{"cou')
    make_worlds(tmp_path, WorldSpec(count=1, frames=5), processes=1)
    assert (tmp_path / "videos" / "000000.mp4").exists()


def test_worlds_of_two_specs_do_not_mix_but_a_folder_may_grow(tmp_path: Path) -> None:
    make_worlds(tmp_path / "worlds", WorldSpec(count=2, frames=5), processes=1)
    with pytest.raises(UserError, match="holds worlds with seed 0, not 1"):
        make_worlds(tmp_path / "worlds", WorldSpec(count=2, frames=5, seed=1))
    with pytest.raises(UserError, match="count 2, not 1"):
        make_worlds(tmp_path / "worlds", WorldSpec(count=1, frames=5))
    make_worlds(tmp_path / "worlds", WorldSpec(count=3, frames=5), processes=1)
    make_worlds(tmp_path / "fresh", WorldSpec(count=3, frames=5), processes=1)
    assert hash_of(tmp_path / "worlds") == hash_of(tmp_path / "fresh")
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "holiday.mp4").write_bytes(b"x")
    with pytest.raises(UserError, match="holds other files"):
        make_worlds(tmp_path / "mine", WorldSpec(count=1, frames=5))


def test_worlds_come_back_through_the_path_of_any_folder_of_videos(tmp_path: Path) -> None:
    spec = WorldSpec(count=3, frames=34, width=96, height=64)
    make_worlds(tmp_path, spec, processes=1)
    index = index_folder(tmp_path)
    clips = list_clips(index, DataSpec(folder=str(tmp_path), pixels=96 * 64))
    assert [(clip.ordinal, clip.start_seconds, clip.frames) for clip in clips[:3]] == [
        (0, 0.0, 17),
        (1, 17 / 8, 17),
        (2, 0.0, 17),
    ]
    for clip, pictures in read(clips):
        world = simulate(spec, int(clip.path.stem))
        first = round(clip.start_seconds * 8)
        drawn = render(world)[first : first + 17]
        assert clip.caption == world.caption
        error = ((pictures.astype(float) - drawn) ** 2).mean()
        assert 10 * np.log10(255**2 / error) > 30


def test_worlds_of_one_size_are_what_they_always_were() -> None:
    """Captions and states of version 0.1.0: whoever makes these worlds again finds the same ones."""
    seen = hashlib.sha256()
    for spec in (WorldSpec(frames=24), WorldSpec(frames=9, width=96, height=48, max_objects=6, seed=3)):
        for world in worlds(spec, 20):
            row = [world.caption, world.grey, (world.states.round(6) + 0.0).tolist()]
            seen.update(json.dumps(row).encode())
    assert seen.hexdigest().startswith("4ea2929e5a55fbf6")


def test_worlds_take_their_sizes_in_turn() -> None:
    for index, world in enumerate(worlds(MIXED, 12)):
        shape = SHAPES[index % 4]
        assert render(world).shape == (shape.frames, shape.height, shape.width, 3)
        alone = WorldSpec(frames=shape.frames, height=shape.height, width=shape.width)
        np.testing.assert_array_equal(world.states, simulate(alone, index).states)


@pytest.mark.parametrize(("height", "width"), [(32, 128), (128, 32), (48, 80), (64, 64)])
def test_objects_are_sized_by_the_shorter_side_and_walls_are_at_the_frame(height: int, width: int) -> None:
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
        covered = np.abs(render(world)[0].astype(float) - world.grey).max(-1) > 60
        rows, columns = np.flatnonzero(covered.any(1)), np.flatnonzero(covered.any(0))
        assert abs(np.ptp(rows) - np.ptp(columns)) <= 1
        assert np.ptp(rows) + 1 == pytest.approx(2 * half * short, abs=2)


def test_an_image_says_what_is_in_it_and_not_what_happens() -> None:
    for world in worlds(WorldSpec(frames=1), 30):
        assert world.caption == " and ".join(f"a {body.colour} {body.shape}" for body in world.bodies)


def test_every_size_comes_back_unchanged_as_a_clip_of_its_own(tmp_path: Path) -> None:
    make_worlds(tmp_path, MIXED, processes=1)
    spec = DataSpec(worlds=MIXED, frames=33, pixels=4608, images=True, holdout_every=3)
    clips = list_clips(index_folder(tmp_path, images=True), spec)
    assert [(clip.frames, clip.height, clip.width) for clip in clips[:4]] == world_clips(MIXED, spec)
    assert len(clips) == 12
    assert {(clip.frames, clip.height, clip.width) for clip in split(clips, 3)[1]} == set(world_clips(MIXED, spec))
    for (clip, pictures), world in zip(read(clips), worlds(MIXED, 12), strict=True):
        drawn = render(world)
        assert clip.caption == world.caption
        assert pictures.shape == drawn.shape
        assert 10 * np.log10(255**2 / ((pictures.astype(float) - drawn) ** 2).mean()) > 28


def test_clips_are_foretold_without_making_a_world(tmp_path: Path) -> None:
    """Also where they are cut, resampled and shrunk."""
    worlds_spec = WorldSpec(count=2, frames=50, fps=16, width=96, height=64)
    make_worlds(tmp_path, worlds_spec, processes=1)
    for spec in (
        DataSpec(worlds=worlds_spec, frames=17, fps=16, pixels=96 * 64),
        DataSpec(worlds=worlds_spec, frames=9, fps=8, pixels=3000),
    ):
        clips = list_clips(index_folder(tmp_path), spec)
        assert [(clip.frames, clip.height, clip.width) for clip in clips] == 2 * world_clips(worlds_spec, spec)


def test_sizes_can_be_given_on_the_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from scaling.cli.main import main

    command = ["data", "make", "--out", str(tmp_path / "worlds"), "--count", "2"]
    assert main([*command, "--shapes", "1x32x64", "5x32x32"]) == 0
    assert "1 frames of 64x32, 5 frames of 32x32" in capsys.readouterr().out
    assert main([*command, "--shapes", "1x32"]) == 2
    assert "--shapes.0 1x32: expected frames, height and width" in capsys.readouterr().err
