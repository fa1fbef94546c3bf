"""Layers that see the past and never the future, and the cache that lets them take a clip in chunks.

Legend: b clips, t frames, h height, w width, c channels; channels come last. Before the first frame of a clip there are
copies of it. A layer that looks back is a `Causal` and takes a `FeatureCache` beside its input; chunks that go through
one cache one after another give what the whole clip gives, with the memory of one chunk (Wan, arXiv 2503.20314, 4.1.3).
"""

import torch
from torch import Tensor, nn

TAPS = 3
"""Frames that one output frame of a causal convolution sees: itself and the two before it."""


class FeatureCache:
    """What the layers of one network remember between the chunks of one clip, or of one batch of clips.

    A new clip needs a new cache. Chunks may be of different lengths.
    """

    def __init__(self) -> None:
        self._frames: dict[nn.Module, Tensor] = {}
        self._registered: set[nn.Module] = set()

    def register(self, layer: nn.Module) -> bool:
        """Whether `layer` is here for the first time, with the first chunk of the clip."""
        first = layer not in self._registered
        self._registered.add(layer)
        return first

    def is_registered(self, layer: nn.Module) -> bool:
        """Whether `layer` has seen an earlier chunk."""
        return layer in self._registered

    def recall(self, layer: nn.Module) -> Tensor:
        """The frames that `layer` kept of the chunks before this one."""
        return self._frames[layer]

    def keep(self, layer: nn.Module, frames: Tensor) -> None:
        """Keeps frames (b, n, h, w, c) for the next chunk: a copy, as a view would hold the whole chunk in memory."""
        self._frames[layer] = frames.clone()


class Causal(nn.Module):
    """A layer that looks back in time, or has one inside: its forward takes (x, cache)."""


def run(layer: nn.Module, x: Tensor, cache: FeatureCache | None) -> Tensor:
    """`layer` on x, with the cache if it looks back."""
    output: Tensor = layer(x, cache) if isinstance(layer, Causal) else layer(x)
    return output


class Chain(nn.Sequential, Causal):
    """Layers one after another, each with the cache if it looks back."""

    def forward(self, x: Tensor, cache: FeatureCache | None = None) -> Tensor:
        for layer in self:
            x = run(layer, x, cache)
        return x


def with_past(layer: nn.Module, x: Tensor, cache: FeatureCache | None, stride: int = 1) -> Tensor:
    """(b, t, h, w, c) -> x after the frames that `layer` needs before it: two, or one for a later chunk at stride 2.

    At stride 2 the first chunk is 1 + 2k frames and gives 1 + k, later ones are 2k frames and give k.
    """
    if cache is None or cache.register(layer):
        x = torch.cat([x[:, :1], x[:, :1], x], dim=1)
    else:
        x = torch.cat([cache.recall(layer), x], dim=1)
    if cache is not None:
        cache.keep(layer, x[:, -(TAPS - stride) :])
    return x


class TemporalConv(Causal):
    """Causal 3-tap convolution over time, stride 1 or 2, as one matrix product over shifted frames.

    (b, t, h, w, c) -> (b, t, h, w, width_out), or (b, 1 + (t-1)/2, h, w, width_out) at stride 2: output i sees frames
    2i-2, 2i-1, 2i.
    """

    def __init__(self, width: int, width_out: int, stride: int = 1) -> None:
        super().__init__()
        self.stride = stride
        self.taps = nn.Linear(TAPS * width, width_out)

    def forward(self, x: Tensor, cache: FeatureCache | None = None) -> Tensor:
        past = with_past(self, x, cache, self.stride)
        count = past.shape[1] - TAPS + 1
        frames = [past[:, tap : tap + count : self.stride] for tap in range(TAPS)]
        result: Tensor = self.taps(torch.cat(frames, dim=-1))
        return result


class CausalConv(Causal):
    """Causal 3x3x3 convolution: (b, t, h, w, c) -> (b, t, h, w, width_out); zeros around each frame.

    One nn.Conv3d on memory that is already channels-last. Forward and backward on (1, 5, 64, 64, 96), one thread of an
    AVX-512 Xeon, torch 2.13, float32: 78 and 163 ms, against 100 and 226 ms with channels first, 77 and 185 ms as one
    Conv2d over the three frames side by side (which keeps three copies for the backward pass), and 90 and 181 ms as the
    sum of three Conv2d. In bfloat16 on that machine all four are within 20 % of each other and channels last leads.
    """

    def __init__(self, width: int, width_out: int) -> None:
        super().__init__()
        self.conv = nn.Conv3d(width, width_out, TAPS, padding=(0, 1, 1))

    def forward(self, x: Tensor, cache: FeatureCache | None = None) -> Tensor:
        past = with_past(self, x, cache)
        result: Tensor = self.conv(past.permute(0, 4, 1, 2, 3)).permute(0, 2, 3, 4, 1)
        return result


def unfold_pairs(layer: nn.Module, x: Tensor, cache: FeatureCache | None) -> Tensor:
    """Doubles time: channels (b, t, h, w, 2c) -> frames (b, 2t-1, h, w, c), or 2t in a chunk that is not the first.

    Frame i becomes frames 2i-1 and 2i; the clip's first gives only its second half, so that 1 + t/2 frames give 1 + t.
    """
    b, t, h, w, c = x.shape
    x = x.reshape(b, t, h, w, 2, c // 2).permute(0, 1, 4, 2, 3, 5).reshape(b, 2 * t, h, w, c // 2)
    return x[:, 1:] if cache is None or cache.register(layer) else x
