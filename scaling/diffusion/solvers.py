"""Solvers: methods that integrate the flow's velocity dz/dt from noise at t = 1 to data at t = 0, all on one grid of
times.

A solver knows nothing of networks or guidance. It takes a velocity, a state in float32, and falling times of any
spacing. On a straight path every solver is exact. Where the velocity jumps, as at the ends of a guidance interval, one
step of any solver has a first-order error.
"""

from collections.abc import Callable, Sequence
from itertools import pairwise

import torch
from torch import Tensor

from scaling.core.specs import Solver
from scaling.diffusion.flow import shift

Velocity = Callable[[Tensor, float], Tensor]
"""A function that returns dz/dt for a state and a flow time."""


def times(steps: int, tokens: int, shift_tokens: int, start: float = 1.0) -> list[float]:
    """steps + 1 flow times that fall from `start` to 0. They are equally spaced and then shifted for a clip of `tokens`
    tokens, as the times of training are (`scaling.diffusion.flow.shift`). With a start below 1, the grid has the same
    distribution as the part of the full grid from there on."""
    assert steps > 0
    assert 0 < start <= 1, f"start is {start}"
    length, short = torch.tensor(tokens), torch.tensor(shift_tokens)
    first = shift(torch.tensor(start), short, tokens).item()  # a shift by 1/a is the inverse of one by a
    even = torch.linspace(first, 0, steps + 1)[1:]
    return [start, *shift(even, length, shift_tokens).tolist()]


def integrate(solver: Solver, velocity: Velocity, z: Tensor, times: Sequence[float]) -> Tensor:
    """Integrates from the state z at the first of the times, and returns the state at the last."""
    return _SOLVERS[solver](velocity, z.float(), times)


def _euler(velocity: Velocity, z: Tensor, times: Sequence[float]) -> Tensor:
    """Euler's method: first order, one evaluation of the velocity in each step."""
    for now, then in pairwise(times):
        z = z + (then - now) * velocity(z, now)
    return z


def _heun(velocity: Velocity, z: Tensor, times: Sequence[float]) -> Tensor:
    """Heun's method: second order, two evaluations of the velocity in each step. It takes the mean of the velocities at
    both ends of the step, the second at the point where Euler's step ends (EDM, arXiv 2206.00364, algorithm 1 without
    its noise).

    As in EDM, the last step is Euler's: at t = 0 there is no noise to predict, and a clean prediction does not
    determine the velocity. One such step has a second-order error, so the solver keeps its order.
    """
    for now, then in pairwise(times):
        slope = velocity(z, now)
        euler_point = z + (then - now) * slope
        z = euler_point if then == 0 else z + (then - now) / 2 * (slope + velocity(euler_point, then))
    return z


def _multistep(velocity: Velocity, z: Tensor, times: Sequence[float]) -> Tensor:
    """A multistep method: second order, one evaluation of the velocity in each step. It integrates the line through the
    last two velocities,

        z' = z + h (v + (h / 2 h_before) (v - v_before))        h = then - now,

    the two-step method of Adams and Bashforth with variable steps (Hairer, Norsett & Wanner, Solving Ordinary
    Differential Equations I, section III.5). PNDM (arXiv 2202.09778) introduced such methods to diffusion. The first
    step has no previous velocity and is Euler's.
    """
    slope_before, h_before = None, 0.0
    for now, then in pairwise(times):
        slope, h = velocity(z, now), then - now
        bend = 0 if slope_before is None else h / (2 * h_before) * (slope - slope_before)
        z = z + h * (slope + bend)
        slope_before, h_before = slope, h
    return z


_SOLVERS: dict[Solver, Callable[[Velocity, Tensor, Sequence[float]], Tensor]] = {
    "euler": _euler,
    "heun": _heun,
    "multistep": _multistep,
}
