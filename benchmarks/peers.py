"""Our transformer and its peers of diffusers, each built at one Shape and each behind the same call.

Same everywhere: depth, width, heads, width of the MLP, patch, latent channels, tokens, text tokens and their width.
Not the same, because it is what the models are: Wan has biases, a wider conditioning and 32-bit norms; DiT has classes
in place of text, so no cross-attention, and a modulation matrix in every block; Latte attends over space in one half of
its blocks, with cross-attention, and over time in the other, without.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from benchmarks.shapes import CHANNELS, TEXT_TOKENS, Shape
from scaling.accounting.geometry import TEXT_DIM, TIME_FEATURES
from scaling.core.specs import EngineSpec
from scaling.models.dit import DiT
from scaling.training.engine import prepare

OURS = "ours"
COMPILED = ", compiled"


@dataclass(frozen=True)
class Network:
    """A model and how to call it: (latents, t_flow, text) -> velocity of the shape of the latents.

    Ours takes and gives patches (tokens, c); the peers take and give (b, c, t, h, w), or (b, c, h, w) for images.
    """

    model: nn.Module
    velocity: Callable[[Tensor, Tensor, Tensor], Tensor]
    latents: tuple[int, ...]
    """Shape of one batch of latents."""
    rows: int
    """How many entries of the first axis of the latents belong to one clip."""


def ours(shape: Shape) -> Network:
    """The DiT of this repository."""
    model = DiT(shape.dit, CHANNELS, TEXT_DIM)
    patch_dim = CHANNELS * shape.dit.patch**2
    rows = math.prod(shape.grid)

    def velocity(patches: Tensor, t_flow: Tensor, text: Tensor) -> Tensor:
        mask = torch.ones(text.shape[:2], dtype=torch.bool, device=text.device)
        return model(patches, [shape.grid] * len(text), t_flow, text, mask, text.mean(dim=1))

    return Network(model, velocity, (shape.clips * rows, patch_dim), rows)


def wan(shape: Shape) -> Network:
    """Wan 2.1's transformer (arXiv 2503.20314)."""
    from diffusers import WanTransformer3DModel

    dit = shape.dit
    model = WanTransformer3DModel(
        patch_size=(1, dit.patch, dit.patch),
        num_attention_heads=dit.heads,
        attention_head_dim=dit.head_dim,
        in_channels=CHANNELS,
        out_channels=CHANNELS,
        text_dim=TEXT_DIM,
        freq_dim=TIME_FEATURES,
        ffn_dim=round(dit.mlp_ratio * dit.width),
        num_layers=dit.depth,
        rope_max_seq_len=64,
    )

    def velocity(latents: Tensor, t_flow: Tensor, text: Tensor) -> Tensor:
        return model(latents, 1000 * t_flow, text, return_dict=False)[0]

    return Network(model, velocity, (shape.clips, CHANNELS, *shape.latent), 1)


def dit(shape: Shape) -> Network:
    """The class-conditional image DiT (arXiv 2212.09748); square images only."""
    from diffusers import DiTTransformer2DModel

    _, h, w = shape.latent
    assert shape.grid[0] == 1, shape
    assert h == w, shape
    model = DiTTransformer2DModel(
        num_attention_heads=shape.dit.heads,
        attention_head_dim=shape.dit.head_dim,
        in_channels=CHANNELS,
        num_layers=shape.dit.depth,
        sample_size=h,
        patch_size=shape.dit.patch,
    )

    def velocity(latents: Tensor, t_flow: Tensor, text: Tensor) -> Tensor:
        labels = torch.zeros(len(latents), dtype=torch.long, device=latents.device)
        return model(latents, 1000 * t_flow, labels, return_dict=False)[0]

    return Network(model, velocity, (shape.clips, CHANNELS, h, w), 1)


def latte(shape: Shape) -> Network:
    """Latte's transformer (arXiv 2401.03048): depth/2 blocks over space and depth/2 over time."""
    from diffusers import LatteTransformer3DModel

    t, h, w = shape.latent
    assert h == w, shape
    assert shape.dit.depth % 2 == 0, shape
    model = LatteTransformer3DModel(
        num_attention_heads=shape.dit.heads,
        attention_head_dim=shape.dit.head_dim,
        in_channels=CHANNELS,
        out_channels=CHANNELS,
        num_layers=shape.dit.depth // 2,
        cross_attention_dim=shape.dit.width,
        attention_bias=True,
        sample_size=h,
        patch_size=shape.dit.patch,
        activation_fn="gelu-approximate",
        norm_type="ada_norm_single",
        norm_elementwise_affine=False,
        norm_eps=1e-6,
        caption_channels=TEXT_DIM,
        video_length=t,
    )

    def velocity(latents: Tensor, t_flow: Tensor, text: Tensor) -> Tensor:
        return model(latents, 1000 * t_flow, text, return_dict=False)[0]

    return Network(model, velocity, (shape.clips, CHANNELS, *shape.latent), 1)


BUILDERS: dict[str, Callable[[Shape], Network]] = {OURS: ours, "wan": wan, "dit": dit, "latte": latte}


def build(name: str, shape: Shape) -> Network:
    """A model by its name, its blocks through torch.compile where the name ends so."""
    network = BUILDERS[name.removesuffix(COMPILED)](shape)
    if name == OURS + COMPILED:
        prepare(network.model, network.model.blocks, EngineSpec(compile=True))
    elif name.endswith(COMPILED):
        network.model.compile_repeated_blocks()
    return network


def meeting(shape: Shape, device: str) -> list[str]:
    """Who can be built at this shape: DiT reads images, Latte videos, Wan and ours both. On a GPU ours and
    Wan, whose blocks are made to be compiled, come compiled too."""
    names = [OURS, "wan", "dit"] if shape.grid[0] == 1 else [OURS, "wan", "latte"]
    return names if device == "cpu" else [*names, OURS + COMPILED, "wan" + COMPILED]


def text_for(shape: Shape, device: torch.device) -> Tensor:
    """Stand-ins for caption states, (clips, TEXT_TOKENS, TEXT_DIM)."""
    return torch.randn(shape.clips, TEXT_TOKENS, TEXT_DIM, device=device)


def settle(model: nn.Module) -> None:
    """Small random values in place of zeros, so that no branch is timed on exact zeros."""
    for parameter in model.parameters():
        if not parameter.any():
            nn.init.normal_(parameter, std=0.02)


def count_params(model: nn.Module) -> int:
    return sum(parameter.numel() for parameter in model.parameters())
