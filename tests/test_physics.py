"""The motion of the objects of a world, against the laws of mechanics."""

from itertools import combinations

import numpy as np
import pytest

from scaling.core.specs import WorldSpec
from scaling.data.physics import Body, energy, gap_between, trajectory
from scaling.data.worlds import simulate

LONG = WorldSpec(frames=240, max_objects=6, width=96, height=64)


@pytest.mark.parametrize("index", range(24))
def test_energy_is_conserved_and_bodies_stay_inside_and_apart(index: int) -> None:
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
            assert min(gap_between(world.bodies[i], world.bodies[j], *offset) for offset in offsets) > -1e-9


@pytest.mark.parametrize("shapes", [("ball", "ball"), ("box", "box"), ("ball", "box")])
def test_a_collision_exchanges_momentum(shapes: tuple) -> None:
    bodies = [Body(shape, "red", half) for shape, half in zip(shapes, (0.1, 0.2), strict=True)]
    start = np.array([[0.5, 1.0, 0.6, 0.05], [1.2, 1.05, -0.3, 0.0]])
    states, collisions = trajectory(bodies, start, gravity=0.0, size=(2.0, 2.0), frames=12, fps=10)
    momenta = states[..., 2:] * np.array([body.mass for body in bodies])[:, None]  # (t, objects, 2)
    assert collisions == 1
    np.testing.assert_allclose(momenta.sum(1), np.broadcast_to(momenta[0].sum(0), (12, 2)), atol=1e-12)
    assert momenta[-1, 0, 0] < 0 < momenta[0, 0, 0]  # the light body is thrown back


def test_equal_balls_head_on_swap_velocities() -> None:
    bodies = [Body("ball", "red", 0.1), Body("ball", "blue", 0.1)]
    start = np.array([[0.5, 1.0, 0.4, 0.0], [1.1, 1.0, -0.2, 0.0]])
    states, _ = trajectory(bodies, start, gravity=0.0, size=(2.0, 2.0), frames=11, fps=10)
    np.testing.assert_allclose(states[-1, :, 2], [-0.2, 0.4], atol=1e-12)
    # they touch after 0.4 / 0.6 s, at 0.5 + 0.4 * 2/3 and 1.1 - 0.2 * 2/3
    np.testing.assert_allclose(states[-1, :, 0], [0.7666666667 - 0.2 / 3, 0.9666666667 + 0.4 / 3], atol=1e-9)


def test_a_ball_falls_on_a_parabola_and_returns_to_its_height() -> None:
    ball = [Body("ball", "red", 0.1)]
    gravity, fps = 0.8, 100
    states, _ = trajectory(ball, np.array([[0.5, 0.4, 0.0, 0.0]]), gravity, (1.0, 1.0), frames=301, fps=fps)
    seconds = np.arange(100) / fps  # the floor is 0.5 below: reached after 1.118 s
    np.testing.assert_allclose(states[:100, 0, 1], 0.4 + gravity / 2 * seconds**2, atol=1e-12)
    period = 2 * np.sqrt(2 * 0.5 / gravity)
    assert states[round(period * fps), 0, 1] == pytest.approx(0.4, abs=1e-4)
