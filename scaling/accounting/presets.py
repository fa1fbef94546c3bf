"""Named sizes of the models: `VAE_PRESETS`, the DiT paper's sizes, and a family of DiTs of any number of parameters.

Specs alone: what a model of a size costs is in `scaling.accounting.flops`.
"""

import math
import re
from functools import cache

from scaling.accounting import flops
from scaling.core.specs import DiTSpec, VAESpec, VAEStage

VAE_PRESETS: dict[str, VAESpec] = {
    # 4x8x8 with 8 channels, for worlds of colored shapes: trains in about a minute on two cores.
    "tiny": VAESpec(patch=4, stages=(VAEStage(width=32, down="both"), VAEStage(width=96, down="time"))),
    # The same pyramid with more room, for real videos on one GPU.
    "small": VAESpec(
        patch=2,
        stages=(VAEStage(width=64, down="space"), VAEStage(width=128, down="both"), VAEStage(width=256, down="time")),
        blocks=2,
        latent_channels=16,
    ),
    # 4x16x16 with 48 channels, a quarter of the tokens of `small`.
    "small16": VAESpec(
        patch=2,
        stages=(VAEStage(width=64, down="space"), VAEStage(width=128, down="both"), VAEStage(width=256, down="both")),
        blocks=2,
        latent_channels=48,
    ),
    # The class of Wan 2.1's VAE (arXiv 2503.20314): 4x8x8, 16 channels, 126.9M parameters.
    "base": VAESpec(
        patch=1,
        stages=(
            VAEStage(width=96, down="space"),
            VAEStage(width=192, down="both"),
            VAEStage(width=384, down="both"),
            VAEStage(width=384, down="none"),
        ),
        blocks=2,
        latent_channels=16,
        convolution="full",
    ),
    # 4x16x16 with 48 channels, as Wan 2.2's and Seaweed's (arXiv 2504.08685) VAEs have: 354M parameters. The pyramid is
    # that of `base` at the width of Wan 2.2's encoder, over 2x2 pixels.
    "base16": VAESpec(
        patch=2,
        stages=(
            VAEStage(width=160, down="space"),
            VAEStage(width=320, down="both"),
            VAEStage(width=640, down="both"),
            VAEStage(width=640, down="none"),
        ),
        blocks=2,
        latent_channels=48,
        convolution="full",
    ),
}

PAPER_DITS: dict[str, DiTSpec] = {
    # S, B, L and XL of the DiT paper (arXiv 2212.09748, table 1), patch 2
    "S": DiTSpec(width=384, depth=12, head_dim=64),
    "B": DiTSpec(width=768, depth=12, head_dim=64),
    "L": DiTSpec(width=1024, depth=24, head_dim=64),
    "XL": DiTSpec(width=1152, depth=28, head_dim=72),
}

ASPECT = 32
"""Width over depth in the family of models: S has 32, L 43, XL 41, and the sizes that a laptop trains have 32."""

FAMILY_RANGE = (5e4, 2e10)
"""The fewest and the most parameters that `family_member` takes; the smallest model has two blocks of width 32."""


def dit_preset(name: str) -> DiTSpec:
    """A DiT by its name: `S`, `B`, `L` or `XL`; a width and a depth, such as `w96d3`; or a number of parameters, such
    as `250k`, `1.3M` or `10B`, which stands for the member of one family of constant aspect whose N is nearest.

    Raises ValueError, with the three forms, for any other name.
    """
    if name in PAPER_DITS:
        return PAPER_DITS[name]
    if match := re.fullmatch(r"w(\d+)d(\d+)", name):
        width, depth = map(int, match.groups())
        return DiTSpec(width=width, depth=depth, head_dim=_head_dim(width))
    if match := re.fullmatch(r"(\d+(?:\.\d+)?)([kMB])", name):
        number, unit = match.groups()
        return family_member(float(number) * {"k": 1e3, "M": 1e6, "B": 1e9}[unit])
    known = f"{', '.join(PAPER_DITS)}, a shape such as w96d3, or N such as 1.3M"
    raise ValueError(f"unknown model size '{name}'; give {known}")


def family_member(n_params: float) -> DiTSpec:
    """The member of the family whose N (parameters without embeddings) is nearest to `n_params`, by ratio.

    Raises ValueError outside `FAMILY_RANGE`.
    """
    low, high = FAMILY_RANGE
    if not low <= n_params <= high:
        raise ValueError(f"{n_params:.3g} parameters is outside the ladder, {low:.0g} to {high:.0g}")
    _, dit = min(zip(_family_sizes(), family(), strict=True), key=lambda member: abs(math.log(member[0] / n_params)))
    return dit


@cache
def _family_sizes() -> tuple[int, ...]:
    """N of each member of the family."""
    return tuple(flops.non_embedding(flops.dit_params(dit, latent_channels=16)) for dit in family())


@cache
def family() -> tuple[DiTSpec, ...]:
    """The models that `family_member` chooses from, smallest first: widths in steps of one head, depth in
    proportion."""
    widths = [*range(32, 64, 16), *range(64, 256, 32), *range(256, 1024, 64), *range(1024, 4096, 128)]
    return tuple(
        DiTSpec(width=width, depth=max(2, round(width / ASPECT)), head_dim=_head_dim(width)) for width in widths
    )


def _head_dim(width: int) -> int:
    """Channels of a head. Heads grow with the model, from 16 channels, the fewest that three axes of rotation can
    share, to 128.

    Raises ValueError where none of these divides the width.
    """
    largest = 16 if width < 64 else 32 if width < 256 else 64 if width < 2048 else 128
    for size in (128, 64, 32, 16):
        if size <= largest and width % size == 0:
            return size
    raise ValueError(f"width {width} is not a multiple of 16")
