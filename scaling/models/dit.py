"""A text-conditional video diffusion transformer over spacetime patches, as a plain nn.Module.

It knows nothing of Lightning, losses or clusters. Clips are packed one after another, each with its own grid of tokens,
so a batch may mix durations, resolutions, aspect ratios and images; attention never crosses clips. Some frames of a
clip may be conditioning frames: they enter clean, and the rest is predicted from them, so a still is animated and a
video is extended. What is written for speed is in `scaling.models.kernels`.

Legend: tokens = all tokens of the batch, clips = its clips, m = caption tokens, c = channels of a patch.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from scaling.accounting.dit_layers import parameter_group
from scaling.accounting.geometry import POSITION_FEATURES, TIME_FEATURES, Grid
from scaling.core.specs import DiTSpec
from scaling.models.kernels.attention import TextMask, attend, cross_attend
from scaling.models.kernels.linear import FusedLinear, linear_matrices
from scaling.models.kernels.packing import Layout
from scaling.models.kernels.rotary import normalize_and_rotate


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


def layer_norm(x: Tensor) -> Tensor:
    """(x - mean) / deviation over the channels of each token, without parameters."""
    return F.layer_norm(x, (x.shape[-1],))


class Block(nn.Module):
    """Self-attention, cross-attention to the caption, and an MLP, each a residual branch that begins at zero."""

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
        self, x: Tensor, condition: Tensor, modulation: Tensor | None, text: Tensor, text_mask: TextMask, layout: Layout
    ) -> Tensor:
        """x: (rows, tokens per row, width) as `layout` arranges them, float32 even under autocast, because it is the
        sum of many branches; condition: (clips, width); modulation, where the blocks share it: (clips, 6, width);
        text: (clips, m, width). Returns the shape and type of x."""
        # adaLN-Zero (DiT, arXiv 2212.09748, section 3.2): the condition gives each branch its shift, scale and gate.
        shift_1, scale_1, gate_1, shift_2, scale_2, gate_2 = self._modulation(condition, modulation)

        # x <- x + gate_1 * SelfAttention(LN(x) * (1 + scale_1) + shift_1)
        y = layout.modulate(layer_norm(x), scale_1, shift_1)
        x = layout.add_gated(x, self._self_attention(y, layout), gate_1)

        # x <- x + CrossAttention(LN(x), text)    (PixArt-alpha, arXiv 2310.00426, section 2.3)
        x = x + self._cross_attention(self.norm_cross(x), text, text_mask, layout)

        # x <- x + gate_2 * W_out SiLU(W_in (LN(x) * (1 + scale_2) + shift_2))
        y = layout.modulate(layer_norm(x), scale_2, shift_2)
        return layout.add_gated(x, self.mlp_out(F.silu(self.mlp_in(y))), gate_2)

    def _modulation(self, condition: Tensor, modulation: Tensor | None) -> tuple[Tensor, ...]:
        """Six times (clips, width), in float32."""
        # W_block c + b_block (DiT)
        if self.modulation is not None:
            modulation = torch.unflatten(self.modulation(condition).float(), 1, (6, -1))
        # W c + b + b_block, with W and b of all blocks (adaLN-single of PixArt-alpha, section 2.3)
        else:
            assert modulation is not None
            assert self.modulation_bias is not None
            modulation = modulation.float() + self.modulation_bias
        return modulation.unbind(1)

    def _self_attention(self, y: Tensor, layout: Layout) -> Tensor:
        """softmax(q k^T / sqrt(head_dim)) v within each clip. y: (rows, tokens per row, width)."""
        qk, v = torch.split(torch.unflatten(self.qkv(y), -1, (3, self.heads, -1)), [2, 1], dim=2)
        # q, k <- rotate(gain * q / rms(q)), likewise k: normalization as in SD3 (arXiv 2403.03206, section 5.3.2),
        # rotation as in RoFormer (arXiv 2104.09864, equation 34)
        qk = normalize_and_rotate(qk, self.qk_gain, layout.cos, layout.sin).flatten(0, 1)  # (tokens, 2, heads, -1)
        attended = attend(qk[:, 0], qk[:, 1], v.flatten(0, 2), layout.segments)  # (tokens, heads, -1)
        out: Tensor = self.attention_out(attended.reshape(y.shape))
        return out

    def _cross_attention(self, y: Tensor, text: Tensor, text_mask: TextMask, layout: Layout) -> Tensor:
        """softmax(q k^T / sqrt(head_dim)) v with keys and values of the clip's caption. y: (rows, tokens per row,
        width); text: (clips, m, width)."""
        q = self.cross_q(y).reshape(-1, self.heads, y.shape[-1] // self.heads)  # (tokens, heads, -1)
        k, v = torch.unflatten(self.cross_kv(text), -1, (2, self.heads, -1)).unbind(2)  # (clips, m, heads, -1)
        out: Tensor = self.cross_out(cross_attend(q, k, v, layout.segments, text_mask).reshape(y.shape))
        return out


class DiT(nn.Module):
    """Noisy patches, flow time and caption in; for each patch the velocity or the clean patch out."""

    def __init__(self, spec: DiTSpec, latent_channels: int, text_dim: int) -> None:
        super().__init__()
        self.spec = spec
        width, patch_dim = spec.width, latent_channels * spec.patch**2
        self.patch_in = nn.Linear(patch_dim, width)
        self.position_in = nn.Linear(POSITION_FEATURES, width, bias=False)
        self.conditioning_mark = nn.Parameter(torch.zeros(width))
        """Added to the tokens of conditioning frames."""
        self.text_in = nn.Linear(text_dim, width)
        self.no_text = nn.Parameter(torch.zeros(text_dim))
        """Stands for a dropped caption, as its pooled embedding and as its only token."""
        self.pooled_in = nn.Linear(text_dim, width)
        self.time_in = nn.Linear(TIME_FEATURES, width)
        self.condition = nn.Linear(width, width)
        self.modulation = _zero_linear(width, 6 * width) if spec.modulation == "shared" else None
        """Shared by all blocks, which add a bias of their own: a matrix per block would be a third of a small model's
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
        conditioning: Tensor | None = None,
    ) -> Tensor:
        """patches: (tokens, c), clips one after another, whose sizes are `grids`; t_flow: (clips,), 1 = noise;
        text: (clips, m, text_dim) with text_mask (clips, m) True for real tokens; pooled: (clips, text_dim);
        conditioning: (tokens,) True where the patch is clean, because it belongs to a conditioning frame.

        A clip whose mask is all False has no caption. Returns (tokens, c), float32.
        """
        layout = Layout(grids, self.spec.head_dim, patches.device)
        dropped = ~text_mask.any(dim=1)
        text = torch.where(dropped[:, None, None], self.no_text, text)
        pooled = torch.where(dropped[:, None], self.no_text, pooled)
        first = torch.arange(text.shape[1], device=text.device) == 0
        attended_text = TextMask(text_mask | (dropped[:, None] & first))

        # c = SiLU(W SiLU(W_t features(t) + W_p pooled))
        condition = F.silu(self.time_in(time_features(t_flow)) + self.pooled_in(pooled))
        condition = F.silu(self.condition(condition))  # (clips, width)
        modulation = None
        if self.modulation is not None:
            modulation = torch.unflatten(self.modulation(condition), 1, (6, -1))  # (clips, 6, width)
        text = self.text_in(text)  # (clips, m, width)
        x = torch.unflatten(self.patch_in(patches).float(), 0, (layout.rows, -1)) + self.position_in(layout.positions)
        if conditioning is not None:
            x = x + conditioning.reshape(*x.shape[:2], 1) * self.conditioning_mark
        for block in self.blocks:
            x = block(x, condition, modulation, text, attended_text, layout)  # (rows, tokens per row, width)
        # W_head (LN(x) * (1 + scale) + shift)    (DiT, section 3.2)
        shift, scale = torch.unflatten(self.head_modulation(condition).float(), 1, (2, -1)).unbind(1)
        x = layout.modulate(layer_norm(x), scale, shift)
        output: Tensor = self.head(x).flatten(0, 1).float()  # (tokens, c)
        return output

    def matrices(self) -> dict[nn.Parameter, int]:
        """The matrices of the blocks, which Muon trains, and how many each parameter holds."""
        layers = [layer for block in self.blocks for name, layer in block.named_children() if name != "modulation"]
        return linear_matrices(*layers)

    def output_matrices(self) -> list[nn.Parameter]:
        """The matrices outside the blocks' branches whose inputs are as many as the width. A wider model needs a
        smaller learning rate for them, as for the output matrices of muP (arXiv 2203.03466, table 8)."""
        layers = [self.modulation, self.head_modulation, self.head, self.condition]
        for block in self.blocks:
            assert isinstance(block, Block)
            layers.append(block.modulation)
        return [p for layer in layers if layer is not None for p in layer.parameters() if p.ndim == 2]

    def count_params(self) -> dict[str, int]:
        """Parameters by group; the groups sum to the whole. N of the law is `blocks + modulation + head`."""
        groups = {"blocks": 0, "modulation": 0, "head": 0, "embeddings": 0}
        for name, parameter in self.named_parameters():
            groups[parameter_group(name)] += parameter.numel()
        assert sum(groups.values()) == sum(p.numel() for p in self.parameters())
        return groups


def _zero_linear(fan_in: int, fan_out: int) -> nn.Linear:
    layer = nn.Linear(fan_in, fan_out)
    nn.init.zeros_(layer.weight)
    nn.init.zeros_(layer.bias)
    return layer
