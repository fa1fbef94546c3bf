"""A text-conditional video diffusion transformer over spacetime patches, as a plain nn.Module.

It knows nothing of Lightning, losses or clusters. Clips are packed one after another, each with its own grid of tokens,
so a batch may mix durations, resolutions, aspect ratios and images; attention never crosses clips.

Legend: tokens = all tokens of the batch, clips = its clips, m = caption tokens, c = channels of a patch.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from scaling.geometry import POSITION_FEATURES, TIME_FEATURES, Grid
from scaling.models.attention import attend, cross_attend
from scaling.models.rope import absolute, rotate, rotation
from scaling.specs import DiTSpec


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
        self.modulation_bias = nn.Parameter(torch.zeros(6, width))
        self.qkv = nn.Linear(width, 3 * width, bias=False)
        self.norm_q = nn.LayerNorm(spec.head_dim, bias=False)
        self.norm_k = nn.LayerNorm(spec.head_dim, bias=False)
        self.attention_out = nn.Linear(width, width, bias=False)
        self.norm_cross = nn.LayerNorm(width, bias=False)
        self.cross_q = nn.Linear(width, width, bias=False)
        self.cross_kv = nn.Linear(width, 2 * width, bias=False)
        self.cross_out = nn.Linear(width, width, bias=False)
        self.mlp_in = nn.Linear(width, hidden, bias=False)
        self.mlp_out = nn.Linear(hidden, width, bias=False)
        nn.init.zeros_(self.cross_out.weight)

    def forward(self, x: Tensor, modulation: Tensor, text: Tensor, text_bias: Tensor, layout: "Layout") -> Tensor:
        """x: (rows, tokens per row, width) as `layout` arranges them; modulation: (clips, 6, width);
        text: (clips, m, width) with text_bias (clips, m). Returns the shape of x."""
        shift_a, scale_a, gate_a, shift_m, scale_m, gate_m = layout.spread(modulation + self.modulation_bias)
        width = x.shape[-1]

        y = F.layer_norm(x, (width,)) * (1 + scale_a) + shift_a
        q, k, v = self.qkv(y).reshape(-1, 3, self.heads, width // self.heads).unbind(1)
        q, k = layout.turn(self.norm_q(q)), layout.turn(self.norm_k(k))
        y = attend(q, k, v.to(q.dtype), layout.lengths).reshape(x.shape)
        x = x + gate_a * self.attention_out(y)

        q = self.cross_q(self.norm_cross(x)).reshape(-1, self.heads, width // self.heads)
        k, v = self.cross_kv(text).unflatten(-1, (2, self.heads, width // self.heads)).unbind(2)
        x = x + self.cross_out(cross_attend(q, k, v, layout.lengths, text_bias).reshape(x.shape))

        y = F.layer_norm(x, (width,)) * (1 + scale_m) + shift_m
        return x + gate_m * self.mlp_out(F.silu(self.mlp_in(y)))


class Layout:
    """Where the packed clips lie. One shape in the whole batch: rows are clips and per-clip values broadcast.
    Mixed shapes: a single row, and per-clip values are repeated for each token."""

    def __init__(self, grids: list[Grid], head_dim: int, device: torch.device) -> None:
        self.lengths = [math.prod(grid) for grid in grids]
        self.uniform = len(set(grids)) == 1
        self.rows = len(grids) if self.uniform else 1
        self.repeats = torch.tensor(self.lengths, device=device)
        distinct = grids[:1] if self.uniform else grids
        turns = [rotation(grid, head_dim, device) for grid in distinct]
        self.cos, self.sin = (torch.cat(parts) for parts in zip(*turns, strict=True))
        self.positions = torch.cat([absolute(grid, device) for grid in distinct])

    def spread(self, per_clip: Tensor) -> tuple[Tensor, ...]:
        """(clips, n, width) -> n tensors that broadcast against (rows, tokens per row, width)."""
        if self.uniform:
            return tuple(per_clip[:, None].unbind(2))
        per_token = per_clip.repeat_interleave(self.repeats, dim=0, output_size=sum(self.lengths))
        return tuple(per_token[None].unbind(2))

    def turn(self, x: Tensor) -> Tensor:
        """Rotary embedding of (tokens, heads, head_dim)."""
        return rotate(x.unflatten(0, (self.rows, -1)), self.cos, self.sin).flatten(0, 1)


class DiT(nn.Module):
    """Noisy patches, flow time and caption in; for each patch the velocity or the clean patch out."""

    def __init__(self, spec: DiTSpec, latent_channels: int, text_dim: int) -> None:
        super().__init__()
        self.spec = spec
        width, patch_dim = spec.width, latent_channels * spec.patch**2
        self.patch_in = nn.Linear(patch_dim, width)
        self.position_in = nn.Linear(POSITION_FEATURES, width, bias=False)
        self.text_in = nn.Linear(text_dim, width)
        self.no_text = nn.Parameter(torch.zeros(text_dim))
        """Stands for a dropped caption, as its pooled embedding and as its only token."""
        self.pooled_in = nn.Linear(text_dim, width)
        self.time_in = nn.Linear(TIME_FEATURES, width)
        self.condition = nn.Linear(width, width)
        self.modulation = nn.Linear(width, 6 * width)
        """Shared by all blocks, which add a bias of their own: a per-block matrix would be a third of a small model's
        parameters and do almost no FLOPs, so it would bend the N axis."""
        self.blocks = nn.ModuleList(Block(spec) for _ in range(spec.depth))
        self.head_modulation = nn.Linear(width, 2 * width)
        self.head = nn.Linear(width, patch_dim)
        for layer in (self.modulation, self.head_modulation, self.head):
            nn.init.zeros_(layer.weight)
            nn.init.zeros_(layer.bias)

    def forward(
        self, patches: Tensor, grids: list[Grid], t_flow: Tensor, text: Tensor, text_mask: Tensor, pooled: Tensor
    ) -> Tensor:
        """patches: (tokens, c), clips one after another, of which `grids` gives the sizes; t_flow: (clips,), 1 = noise;
        text: (clips, m, text_dim) with text_mask (clips, m) True for words; pooled: (clips, text_dim).

        A clip whose mask is all False has no caption. Returns (tokens, c), float32.
        """
        layout = Layout(grids, self.spec.head_dim, patches.device)
        dropped = ~text_mask.any(dim=1)
        text = torch.where(dropped[:, None, None], self.no_text, text)
        pooled = torch.where(dropped[:, None], self.no_text, pooled)
        first = torch.arange(text.shape[1], device=text.device) == 0
        text_bias = torch.zeros_like(text[..., 0]).masked_fill(~(text_mask | (dropped[:, None] & first)), -math.inf)

        condition = F.silu(self.time_in(time_features(t_flow)) + self.pooled_in(pooled))
        condition = F.silu(self.condition(condition))
        modulation = self.modulation(condition).unflatten(1, (6, -1))
        text = self.text_in(text)
        x = self.patch_in(patches).unflatten(0, (layout.rows, -1)) + self.position_in(layout.positions)
        for block in self.blocks:
            x = block(x, modulation, text, text_bias, layout)
        shift, scale = layout.spread(self.head_modulation(condition).unflatten(1, (2, -1)))
        x = F.layer_norm(x, (x.shape[-1],)) * (1 + scale) + shift
        return self.head(x).flatten(0, 1).float()

    def matrices(self) -> list[nn.Parameter]:
        """The matrices of the blocks, which Muon trains."""
        return [p for p in self.blocks.parameters() if p.ndim == 2 and p.shape[0] != 6]

    def count_params(self) -> dict[str, int]:
        """Parameters by group; the groups sum to the whole. N of the law is `blocks + modulation + head`."""
        groups = {"blocks": 0, "modulation": 0, "head": 0, "embeddings": 0}
        kinds = {"blocks": "blocks", "modulation": "modulation", "head": "head", "head_modulation": "modulation"}
        for name, parameter in self.named_parameters():
            groups[kinds.get(name.split(".")[0], "embeddings")] += parameter.numel()
        assert sum(groups.values()) == sum(p.numel() for p in self.parameters())
        return groups
