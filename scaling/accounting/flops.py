"""Closed-form parameters and FLOPs of the models, so that a plan needs no torch.

One multiply-add is two FLOPs; training is three forwards, less the gradients of the inputs, which nobody computes
(about 1 % of a small model); attention is counted; recomputation, element-wise work and the optimizer are not.
`torch.utils.flop_counter` must agree (tests/test_flops.py).
"""

import math
from collections.abc import Iterable

from scaling.accounting.geometry import POSITION_FEATURES, TEXT_DIM, TIME_FEATURES, Grid, latent_size
from scaling.accounting.vae_layers import decoder_layers, encoder_layers
from scaling.core.specs import DiTSpec, EvalSpec, VAESpec

CLASS_DIT_TIME_FEATURES = 256
"""Sinusoids of the DiT paper's time embedding."""
I3D_FLOPS_PER_FRAME = 3.4735e9
"""Of the metrics' I3D at 224 x 224: 55.58e9 for 16 frames (`torch.utils.flop_counter`, tests/test_fvd.py)."""


def dit_params(dit: DiTSpec, latent_channels: int, text_dim: int = TEXT_DIM) -> dict[str, int]:
    """Parameters by group; N of the law is everything but `embeddings`."""
    d, patch_dim = dit.width, latent_channels * dit.patch**2
    shared = dit.modulation == "shared"
    own_modulation = 6 * d if shared else 6 * d * d + 6 * d
    block = own_modulation + _matrices(d, _hidden(dit)) + 4 * d * d + 2 * dit.head_dim + d
    return {
        "blocks": dit.depth * block,
        "modulation": (6 * (d * d + d) if shared else 0) + 2 * (d * d + d),
        "head": (d + 1) * patch_dim,
        "embeddings": (patch_dim + 1) * d
        + POSITION_FEATURES * d
        + d
        + 2 * (text_dim + 1) * d
        + text_dim
        + (TIME_FEATURES + 1) * d
        + (d + 1) * d,
    }


def non_embedding(groups: dict[str, int]) -> int:
    """N of the law from the groups of `dit_params`."""
    return sum(count for name, count in groups.items() if name != "embeddings")


def dit_forward(
    dit: DiTSpec, latent_channels: int, grids: Iterable[Grid], text_tokens: int, text_dim: int = TEXT_DIM
) -> float:
    """FLOPs of one forward over a packed batch of clips with these token grids."""
    grids = list(grids)
    d = dit.width
    lengths = [math.prod(grid) for grid in grids]
    tokens, clips = sum(lengths), len(lengths)
    words = clips * text_tokens
    modulations = 1 if dit.modulation == "shared" else dit.depth
    condition = clips * d * (TIME_FEATURES + text_dim + d + modulations * 6 * d + 2 * d) + words * text_dim * d
    block = tokens * (_matrices(d, _hidden(dit)) + 2 * d * d) + words * 2 * d * d
    attention = sum(_attention(length, length, d) + _attention(length, text_tokens, d) for length in lengths)
    head = tokens * d * latent_channels * dit.patch**2
    return _embed(dit, latent_channels, grids) + 2.0 * (condition + dit.depth * (block + attention) + head)


def dit_training(
    dit: DiTSpec, latent_channels: int, grids: Iterable[Grid], text_tokens: int, text_dim: int = TEXT_DIM
) -> float:
    """FLOPs of one training step on a packed batch."""
    grids = list(grids)
    inputs = _embed(dit, latent_channels, grids) + 2.0 * len(grids) * TIME_FEATURES * dit.width
    return 3.0 * dit_forward(dit, latent_channels, grids, text_tokens, text_dim) - inputs


def sampling_forwards(evaluation: EvalSpec) -> tuple[int, int]:
    """Least and most forwards, of one clip, that draw one clip. Guidance doubles those at flow times inside its
    interval; where that is not all of them, how many they are depends on the clip's length, so it is left open."""
    steps = evaluation.sample_steps
    evaluations = 2 * steps - 1 if evaluation.solver == "heun" else steps  # heun's last step is euler's
    if evaluation.guidance == 1:
        return evaluations, evaluations
    return evaluations if evaluation.guidance_interval != (0.0, 1.0) else 2 * evaluations, 2 * evaluations


def class_dit_params(width: int, depth: int, *, latent_channels: int = 4, patch: int = 2, classes: int = 1000) -> int:
    """Parameters of the DiT paper's class-conditional image model (arXiv 2212.09748), counted as ours are: biases
    everywhere, modulation per block, a variance beside every output; its fixed position table is not trained."""
    d, patch_dim = width, latent_channels * patch**2
    block = _matrices(d, 4 * d) + 9 * d + 6 * (d * d + d)
    time = (CLASS_DIT_TIME_FEATURES + 1) * d + (d + 1) * d
    head = 2 * (d * d + d) + (d + 1) * 2 * patch_dim
    return depth * block + (patch_dim + 1) * d + time + (classes + 1) * d + head


def class_dit_forward(
    width: int, depth: int, *, latent_side: int = 32, latent_channels: int = 4, patch: int = 2
) -> float:
    """FLOPs of one forward of that model on one image: `latent_side` of 32 is 256 pixels."""
    d, tokens, patch_dim = width, (latent_side // patch) ** 2, latent_channels * patch**2
    condition = d * (CLASS_DIT_TIME_FEATURES + d + depth * 6 * d + 2 * d)
    blocks = depth * (tokens * _matrices(d, 4 * d) + _attention(tokens, tokens, d))
    return 2.0 * (condition + blocks + tokens * d * 3 * patch_dim)


def _hidden(dit: DiTSpec) -> int:
    return round(dit.mlp_ratio * dit.width)


def _matrices(d: int, hidden: int) -> int:
    """Weights of self-attention and MLP, each multiplied once per token."""
    return 4 * d * d + 2 * d * hidden


def _attention(queries: int, keys: int, d: int) -> int:
    """Multiply-adds of scores and of weighted values."""
    return 2 * queries * keys * d


def _embed(dit: DiTSpec, latent_channels: int, grids: list[Grid]) -> float:
    """FLOPs to embed patches and positions."""
    lengths = [math.prod(grid) for grid in grids]
    positions = lengths[0] if len(set(grids)) == 1 else sum(lengths)  # one shape shares its positions
    return 2.0 * dit.width * (sum(lengths) * latent_channels * dit.patch**2 + positions * POSITION_FEATURES)


def vae_params(vae: VAESpec) -> int:
    """Parameters of both halves."""
    return sum(layer.params for half in (encoder_layers, decoder_layers) for layer in half(vae, (1, 1, 1)))


def vae_training(vae: VAESpec, frames: int, height: int, width: int) -> float:
    """FLOPs of one training step on one clip."""
    both = vae_encode(vae, frames, height, width) + vae_decode(vae, frames, height, width)
    first = next(encoder_layers(vae, _patched(vae, frames, height, width)))
    return 3.0 * both - 2.0 * first.multiply_adds


def vae_encode(vae: VAESpec, frames: int, height: int, width: int) -> float:
    """FLOPs to encode one clip."""
    return 2.0 * sum(layer.multiply_adds for layer in encoder_layers(vae, _patched(vae, frames, height, width)))


def vae_decode(vae: VAESpec, frames: int, height: int, width: int) -> float:
    """FLOPs to decode one clip to this size."""
    return 2.0 * sum(layer.multiply_adds for layer in decoder_layers(vae, latent_size(frames, height, width, vae)))


def _patched(vae: VAESpec, frames: int, height: int, width: int) -> Grid:
    return frames, height // vae.patch, width // vae.patch
