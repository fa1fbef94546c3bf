"""Parameters and FLOPs of the models in closed form, so that a plan needs no torch.

One multiply-add is two FLOPs. Training is three forward passes, without the gradients of inputs that nothing needs
(about 1 % of a small model). Attention is counted; recomputation, elementwise work and the optimizer are not. All
counts are sums over named layers; `torch.utils.flop_counter` must agree (tests/test_flops.py).
"""

from collections.abc import Iterable

from scaling.accounting.dit_layers import class_dit_layers, dit_layers, parameter_group
from scaling.accounting.geometry import TEXT_DIM, Grid, latent_size
from scaling.accounting.layers import forward_flops, training_flops
from scaling.accounting.vae_layers import decoder_layers, encoder_layers
from scaling.core.specs import DiTSpec, EvalSpec, VAESpec

I3D_FLOPS_PER_FRAME = 3.4735e9
"""FLOPs of the metrics' I3D for one frame of 224 x 224: 55.58e9 for 16 frames (`torch.utils.flop_counter`,
tests/test_fvd.py)."""


def dit_params(dit: DiTSpec, latent_channels: int, text_dim: int = TEXT_DIM) -> dict[str, int]:
    """Parameters by group; N of the law is everything but `embeddings`."""
    groups = {"blocks": 0, "modulation": 0, "head": 0, "embeddings": 0}
    for layer in dit_layers(dit, latent_channels, [(1, 1, 1)], 1, text_dim):
        groups[parameter_group(layer.name)] += layer.params
    return groups


def non_embedding(groups: dict[str, int]) -> int:
    """N of the law from the groups of `dit_params`."""
    return sum(count for name, count in groups.items() if name != "embeddings")


def dit_forward(
    dit: DiTSpec, latent_channels: int, grids: Iterable[Grid], text_tokens: int, text_dim: int = TEXT_DIM
) -> float:
    """FLOPs of one forward pass over a packed batch of clips with these token grids."""
    return forward_flops(dit_layers(dit, latent_channels, list(grids), text_tokens, text_dim))


def dit_training(
    dit: DiTSpec, latent_channels: int, grids: Iterable[Grid], text_tokens: int, text_dim: int = TEXT_DIM
) -> float:
    """FLOPs of one training step on a packed batch."""
    return training_flops(dit_layers(dit, latent_channels, list(grids), text_tokens, text_dim))


def sampling_forwards(evaluation: EvalSpec) -> tuple[int, int]:
    """The fewest and the most forward passes of one clip that sample one clip. Guidance doubles those at flow times
    inside its interval; where that is not all of them, their number depends on the clip's length and is left open."""
    steps = evaluation.sample_steps
    evaluations = 2 * steps - 1 if evaluation.solver == "heun" else steps  # heun's last step is euler's
    if evaluation.guidance == 1:
        return evaluations, evaluations
    return evaluations if evaluation.guidance_interval != (0.0, 1.0) else 2 * evaluations, 2 * evaluations


def class_dit_params(width: int, depth: int) -> int:
    """Parameters of the DiT paper's class-conditional image model of patch 2 (arXiv 2212.09748)."""
    return sum(layer.params for layer in class_dit_layers(width, depth, latent_side=32))


def class_dit_forward(width: int, depth: int, *, latent_side: int = 32) -> float:
    """FLOPs of one forward pass of that model on one image: a `latent_side` of 32 is 256 pixels."""
    return forward_flops(class_dit_layers(width, depth, latent_side=latent_side))


def vae_params(vae: VAESpec) -> int:
    """Parameters of both halves."""
    return sum(layer.params for half in (encoder_layers, decoder_layers) for layer in half(vae, (1, 1, 1)))


def vae_training(vae: VAESpec, frames: int, height: int, width: int) -> float:
    """FLOPs of one training step on one clip."""
    encoder = encoder_layers(vae, _patched(vae, frames, height, width))
    decoder = decoder_layers(vae, latent_size(frames, height, width, vae))
    return training_flops([*encoder, *decoder])


def vae_encode(vae: VAESpec, frames: int, height: int, width: int) -> float:
    """FLOPs to encode one clip."""
    return forward_flops(encoder_layers(vae, _patched(vae, frames, height, width)))


def vae_decode(vae: VAESpec, frames: int, height: int, width: int) -> float:
    """FLOPs to decode one clip to this size."""
    return forward_flops(decoder_layers(vae, latent_size(frames, height, width, vae)))


def _patched(vae: VAESpec, frames: int, height: int, width: int) -> Grid:
    return frames, height // vae.patch, width // vae.patch
