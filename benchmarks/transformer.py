"""A training step and a sampling step of our transformer and of its peers."""

from functools import partial
from typing import Literal

import torch
from torch import Tensor

from benchmarks.measure import Build, Contender
from benchmarks.peers import build, count_params, meeting, settle, text_for
from benchmarks.precision import Precision, precise
from benchmarks.shapes import Shape
from scaling.diffusion.flow import mix

GUIDANCE = 2.0


def training(shape: Shape, precision: Precision, name: str, device: torch.device) -> Contender:
    """Forward, backward and AdamW on the flow's loss; 32-bit weights, whatever the precision of the products."""
    network = build(name, shape)
    model = network.model.to(device).train()
    settle(model)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, fused=True)
    clean, noise = torch.randn(2, *network.latents, device=device)
    t_flow, text = torch.rand(shape.clips, device=device), text_for(shape, device)
    t_row = _per_row(t_flow, network.rows, clean)

    def step() -> None:
        noisy = mix(clean, noise, t_row)
        with precise(device, precision):
            output = network.velocity(noisy, t_flow, text)
        (output.float() - (noise - clean)).square().mean().backward()
        optimizer.step()
        optimizer.zero_grad()

    return Contender(name, step, count_params(model), shape.tokens)


def sampling(shape: Shape, precision: Precision, name: str, device: torch.device) -> Contender:
    """One Euler step with classifier-free guidance: every clip goes through twice, with and without its caption."""
    network = build(name, shape)
    model = network.model.to(device).eval()
    settle(model)
    z = torch.randn(network.latents, device=device)
    t_flow, text = torch.full((2 * shape.clips,), 0.5, device=device), text_for(shape, device).repeat(2, 1, 1)

    @torch.no_grad()
    def step() -> Tensor:
        with precise(device, precision):
            conditional, unconditional = network.velocity(torch.cat([z, z]), t_flow, text).float().chunk(2)
        return z - 0.05 * (unconditional + GUIDANCE * (conditional - unconditional))

    return Contender(name, step, count_params(model), shape.tokens)


def contenders(
    kind: Literal["training", "sampling"], shape: Shape, precision: Precision, device: str
) -> dict[str, Build]:
    """Ours first, then the peers that this shape fits."""
    builder = {"training": training, "sampling": sampling}[kind]
    return {name: partial(builder, shape, precision, name) for name in meeting(shape, device)}


def _per_row(t_flow: Tensor, rows: int, like: Tensor) -> Tensor:
    """(clips,) to what broadcasts against latents with `rows` entries to a clip."""
    return t_flow.repeat_interleave(rows).view(-1, *[1] * (like.ndim - 1))
