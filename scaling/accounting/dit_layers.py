"""The layers of the DiT by name, with what each costs. Imports no torch.

The list follows `scaling.models.dit` layer by layer (tests/test_flops.py compares it with the module's parameters and
with torch's counter of FLOPs).
"""

import math
from collections.abc import Iterator, Sequence

from scaling.accounting.geometry import POSITION_FEATURES, TEXT_DIM, TIME_FEATURES, Grid
from scaling.accounting.layers import LayerCost
from scaling.core.specs import DiTSpec

PARAMETER_GROUPS = {"blocks": "blocks", "modulation": "modulation", "head_modulation": "modulation", "head": "head"}
"""First part of a parameter's name -> its group; everything else is `embeddings`, which N of the law leaves out."""


def parameter_group(name: str) -> str:
    """The group of a parameter or layer of the DiT: blocks, modulation, head or embeddings."""
    return PARAMETER_GROUPS.get(name.split(".")[0], "embeddings")


def dit_layers(
    dit: DiTSpec, latent_channels: int, grids: Sequence[Grid], text_tokens: int, text_dim: int = TEXT_DIM
) -> Iterator[LayerCost]:
    """Every layer, on a packed batch of clips with these token grids. Layers of blocks stand once, for all blocks."""
    d, patch_dim = dit.width, latent_channels * dit.patch**2
    lengths = [math.prod(grid) for grid in grids]
    clips, tokens, text_positions = len(lengths), sum(lengths), len(lengths) * text_tokens
    positions = lengths[0] if len(set(grids)) == 1 else tokens  # clips of one shape share their positions
    yield LayerCost("patch_in", patch_dim * d, d, tokens, reads_data=True)
    yield LayerCost("position_in", POSITION_FEATURES * d, 0, positions, reads_data=True)
    yield LayerCost("conditioning_mark", vectors=d)
    yield LayerCost("text_in", text_dim * d, d, text_positions)  # its input may be the trained `no_text`
    yield LayerCost("no_text", vectors=text_dim)
    yield LayerCost("pooled_in", text_dim * d, d, clips)
    yield LayerCost("time_in", TIME_FEATURES * d, d, clips, reads_data=True)
    yield LayerCost("condition", d * d, d, clips)
    if dit.modulation == "shared":
        yield LayerCost("modulation", 6 * d * d, 6 * d, clips)
    yield from _block_layers(dit, lengths, text_tokens)
    yield LayerCost("head_modulation", 2 * d * d, 2 * d, clips)
    yield LayerCost("head", d * patch_dim, patch_dim, tokens)


def _block_layers(dit: DiTSpec, lengths: Sequence[int], text_tokens: int) -> Iterator[LayerCost]:
    """The layers of all blocks, on clips of so many tokens."""
    d, hidden = dit.width, round(dit.mlp_ratio * dit.width)
    clips, tokens, text_positions = len(lengths), sum(lengths), len(lengths) * text_tokens

    def layer(name: str, weights: int = 0, vectors: int = 0, positions: int = 0, attention: int = 0) -> LayerCost:
        return LayerCost(f"blocks.*.{name}", weights, vectors, positions, attention, copies=dit.depth)

    if dit.modulation == "shared":
        yield layer("modulation_bias", vectors=6 * d)
    else:
        yield layer("modulation", 6 * d * d, 6 * d, clips)
    yield layer("qkv", 3 * d * d, 0, tokens)
    yield layer("qk_gain", vectors=2 * dit.head_dim)
    yield layer("attend", attention=sum(_attention(length, length, d) for length in lengths))
    yield layer("attention_out", d * d, 0, tokens)
    yield layer("norm_cross", vectors=d)
    yield layer("cross_q", d * d, 0, tokens)
    yield layer("cross_kv", 2 * d * d, 0, text_positions)
    yield layer("cross_attend", attention=_attention(tokens, text_tokens, d))
    yield layer("cross_out", d * d, 0, tokens)
    yield layer("mlp_in", d * hidden, 0, tokens)
    yield layer("mlp_out", hidden * d, 0, tokens)


def _attention(queries: int, keys: int, d: int) -> int:
    """Multiply-adds of scores and of weighted values."""
    return 2 * queries * keys * d


CLASS_DIT_TIME_FEATURES = 256
"""Sinusoids of the DiT paper's time embedding."""


def class_dit_layers(
    width: int, depth: int, *, latent_side: int, latent_channels: int = 4, patch: int = 2, classes: int = 1000
) -> Iterator[LayerCost]:
    """The layers of the DiT paper's class-conditional image model (arXiv 2212.09748), on one image: biases everywhere,
    modulation per block, a variance beside every output; its fixed position table is not trained."""
    d, patch_dim, tokens = width, latent_channels * patch**2, (latent_side // patch) ** 2
    yield LayerCost("patch_in", patch_dim * d, d, tokens, reads_data=True)
    yield LayerCost("time_in", CLASS_DIT_TIME_FEATURES * d, d, 1, reads_data=True)
    yield LayerCost("time_out", d * d, d, 1)
    yield LayerCost("class_table", vectors=(classes + 1) * d)
    yield LayerCost("blocks.*.modulation", 6 * d * d, 6 * d, 1, copies=depth)
    yield LayerCost("blocks.*.qkv", 3 * d * d, 3 * d, tokens, copies=depth)
    yield LayerCost("blocks.*.attend", attention=_attention(tokens, tokens, d), copies=depth)
    yield LayerCost("blocks.*.attention_out", d * d, d, tokens, copies=depth)
    yield LayerCost("blocks.*.mlp_in", 4 * d * d, 4 * d, tokens, copies=depth)
    yield LayerCost("blocks.*.mlp_out", 4 * d * d, d, tokens, copies=depth)
    yield LayerCost("head_modulation", 2 * d * d, 2 * d, 1)
    yield LayerCost("head", d * 2 * patch_dim, 2 * patch_dim, tokens)
