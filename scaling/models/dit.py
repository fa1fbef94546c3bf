"""A text-conditional video diffusion transformer over spacetime patches, as a plain nn.Module.

It knows nothing of Lightning, losses or clusters. Clips are packed one after another, each with its own grid of tokens,
so a batch may mix durations, resolutions, aspect ratios and images; attention never crosses clips. Some frames of a
clip may be given: they enter clean, the rest is predicted from them; so a still is animated and a video is extended.

Legend: tokens = all tokens of the batch, clips = its clips, m = caption tokens, c = channels of a patch.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from scaling.accounting.geometry import POSITION_FEATURES, TIME_FEATURES, Grid
from scaling.core.specs import DiTSpec
from scaling.models.attention import Words, attend, cross_attend
from scaling.models.fused import FusedLinear, linear_matrices
from scaling.models.packing import Layout
from scaling.models.rope import RMSNormRotate


def patchify(latents: Tensor, patch: int) -> Tensor:
    """(b, t, h, w, c) -> (b, t * h/patch * w/patch, patch*patch*c), tokens in t, h, w order."""
    b, t, h, w, c = latents.shape
    x = latents.reshape(b, t, h // patch, patch, w // patch, patch, c)
    return x.permute(0, 1, 2, 4, 3, 5, 6).reshape(b, t * (h // patch) * (w // patch), patch * patch * c)


def unpatchify(tokens: Tensor, grid: Grid, patch: int) -> Tensor:
    """(b, t*h*w, patch*patch*c) with grid (t, h, w) -> (b, t, h*patch, w*patch, c)."""
    t, h, w = grid
    b, _, c = tokens.shape
    x = tokens.reshape(b, t, h, w, patch, patch, c // patch**2)
    return x.permute(0, 1, 2, 4, 3, 5, 6).reshape(b, t, h * patch, w * patch, c // patch**2)


def time_features(t_flow: Tensor) -> Tensor:
    """(clips,) in [0, 1] -> (clips, TIME_FEATURES): cosines and sines at geometric frequencies."""
    half = TIME_FEATURES // 2
    frequencies = torch.exp(-math.log(1e4) * torch.arange(half, device=t_flow.device) / half)
    angles = 1000.0 * t_flow[:, None].float() * frequencies
    return torch.cat([angles.cos(), angles.sin()], dim=1)


class Block(nn.Module):
    """Self-attention, cross-attention to the caption, MLP: each a zero-gated residual branch."""

    def __init__(self, spec: DiTSpec) -> None:
        super().__init__()
        width, self.heads = spec.width, spec.heads
        hidden = round(spec.mlp_ratio * width)
        self.modulation = _zero_linear(width, 6 * width) if spec.modulation == "per_block" else None
        self.modulation_bias = nn.Parameter(torch.zeros(6, width)) if spec.modulation == "shared" else None
        self.qkv = FusedLinear(width, width, 3, bias=False)
        self.qk_gain = nn.Parameter(torch.ones(2, 1, spec.head_dim))
        self.attention_out = nn.Linear(width, width, bias=False)
        self.norm_cross = nn.LayerNorm(width, bias=False)
        self.cross_q = nn.Linear(width, width, bias=False)
        self.cross_kv = FusedLinear(width, width, 2, bias=False)
        self.cross_out = nn.Linear(width, width, bias=False)
        self.mlp_in = nn.Linear(width, hidden, bias=False)
        self.mlp_out = nn.Linear(hidden, width, bias=False)
        nn.init.zeros_(self.cross_out.weight)

    def forward(
        self, x: Tensor, condition: Tensor, modulation: Tensor | None, text: Tensor, words: Words, layout: Layout
    ) -> Tensor:
        """x: (rows, tokens per row, width) as `layout` arranges them, float32 even under autocast: the sum of many
        branches; condition: (clips, width), and modulation, where the blocks share it: (clips, 6, width); text:
        (clips, m, width). Returns the like of x."""
        if self.modulation is not None:
            modulation = self.modulation(condition).float().unflatten(1, (6, -1))
        else:
            assert modulation is not None
            assert self.modulation_bias is not None
            modulation = modulation.float() + self.modulation_bias
        shift_a, scale_a, gate_a, shift_m, scale_m, gate_m = modulation.unbind(1)
        width = x.shape[-1]

        y = layout.modulate(F.layer_norm(x, (width,)), scale_a, shift_a)
        qk, v = self.qkv(y).unflatten(-1, (3, self.heads, -1)).split([2, 1], dim=2)
        qk = RMSNormRotate.apply(qk, self.qk_gain, layout.cos, layout.sin).flatten(0, 1)
        y = attend(qk[:, 0], qk[:, 1], v.flatten(0, 2), layout.segments).reshape(x.shape)
        x = layout.add_gated(x, self.attention_out(y), gate_a)

        q = self.cross_q(self.norm_cross(x)).reshape(-1, self.heads, width // self.heads)
        k, v = self.cross_kv(text).unflatten(-1, (2, self.heads, -1)).unbind(2)
        x = x + self.cross_out(cross_attend(q, k, v, layout.segments, words).reshape(x.shape))

        y = layout.modulate(F.layer_norm(x, (width,)), scale_m, shift_m)
        return layout.add_gated(x, self.mlp_out(F.silu(self.mlp_in(y))), gate_m)


class DiT(nn.Module):
    """Noisy patches, flow time and caption in; for each patch the velocity or the clean patch out."""

    def __init__(self, spec: DiTSpec, latent_channels: int, text_dim: int) -> None:
        super().__init__()
        self.spec = spec
        width, patch_dim = spec.width, latent_channels * spec.patch**2
        self.patch_in = nn.Linear(patch_dim, width)
        self.position_in = nn.Linear(POSITION_FEATURES, width, bias=False)
        self.given = nn.Parameter(torch.zeros(width))
        """Marks the tokens of given frames."""
        self.text_in = nn.Linear(text_dim, width)
        self.no_text = nn.Parameter(torch.zeros(text_dim))
        """Stands for a dropped caption, as its pooled embedding and as its only token."""
        self.pooled_in = nn.Linear(text_dim, width)
        self.time_in = nn.Linear(TIME_FEATURES, width)
        self.condition = nn.Linear(width, width)
        self.modulation = _zero_linear(width, 6 * width) if spec.modulation == "shared" else None
        """Of all blocks, which add a bias of their own: a per-block matrix would be a third of a small model's
        parameters and do almost no FLOPs, so it would bend the N axis."""
        self.blocks = nn.ModuleList(Block(spec) for _ in range(spec.depth))
        self.head_modulation = _zero_linear(width, 2 * width)
        self.head = _zero_linear(width, patch_dim)

    def forward(
        self,
        patches: Tensor,
        grids: list[Grid],
        t_flow: Tensor,
        text: Tensor,
        text_mask: Tensor,
        pooled: Tensor,
        given: Tensor | None = None,
    ) -> Tensor:
        """patches: (tokens, c), clips one after another, of which `grids` gives the sizes; t_flow: (clips,), 1 = noise;
        text: (clips, m, text_dim) with text_mask (clips, m) True for words; pooled: (clips, text_dim); given: (tokens,)
        True where the patch is clean, because its frame is given.

        A clip whose mask is all False has no caption. Returns (tokens, c), float32.
        """
        layout = Layout(grids, self.spec.head_dim, patches.device)
        dropped = ~text_mask.any(dim=1)
        text = torch.where(dropped[:, None, None], self.no_text, text)
        pooled = torch.where(dropped[:, None], self.no_text, pooled)
        first = torch.arange(text.shape[1], device=text.device) == 0
        words = Words(text_mask | (dropped[:, None] & first))

        condition = F.silu(self.time_in(time_features(t_flow)) + self.pooled_in(pooled))
        condition = F.silu(self.condition(condition))
        modulation = None if self.modulation is None else self.modulation(condition).unflatten(1, (6, -1))
        text = self.text_in(text)
        x = self.patch_in(patches).float().unflatten(0, (layout.rows, -1)) + self.position_in(layout.positions)
        if given is not None:
            x = x + given.reshape(*x.shape[:2], 1) * self.given
        for block in self.blocks:
            x = block(x, condition, modulation, text, words, layout)
        shift, scale = self.head_modulation(condition).float().unflatten(1, (2, -1)).unbind(1)
        x = layout.modulate(F.layer_norm(x, (x.shape[-1],)), scale, shift)
        return self.head(x).flatten(0, 1).float()

    def matrices(self) -> dict[nn.Parameter, int]:
        """The matrices of the blocks, which Muon trains, and how many each parameter holds."""
        layers = [layer for block in self.blocks for name, layer in block.named_children() if name != "modulation"]
        return linear_matrices(*layers)

    def wide_matrices(self) -> list[nn.Parameter]:
        """The matrices outside the blocks' own whose inputs are as many as the width: a wider model needs a smaller
        learning rate for them."""
        layers = [self.modulation, self.head_modulation, self.head, self.condition]
        for block in self.blocks:
            assert isinstance(block, Block)
            layers.append(block.modulation)
        return [p for layer in layers if layer is not None for p in layer.parameters() if p.ndim == 2]

    def count_params(self) -> dict[str, int]:
        """Parameters by group; the groups sum to the whole. N of the law is `blocks + modulation + head`."""
        groups = {"blocks": 0, "modulation": 0, "head": 0, "embeddings": 0}
        kinds = {"blocks": "blocks", "modulation": "modulation", "head": "head", "head_modulation": "modulation"}
        for name, parameter in self.named_parameters():
            groups[kinds.get(name.split(".")[0], "embeddings")] += parameter.numel()
        assert sum(groups.values()) == sum(p.numel() for p in self.parameters())
        return groups


def _zero_linear(fan_in: int, fan_out: int) -> nn.Linear:
    layer = nn.Linear(fan_in, fan_out)
    nn.init.zeros_(layer.weight)
    nn.init.zeros_(layer.bias)
    return layer
