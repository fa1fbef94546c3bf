"""One `attend` for packed clips: every clip attends to itself alone, and no padding is ever a key or a query.

Neighbouring clips of equal length are a run. On a CPU, and wherever the whole batch is one run, each run is one dense
product; on a GPU a batch of several runs is one call of torch's variable-length flash attention.
"""

from collections.abc import Sequence
from functools import cached_property
from itertools import groupby

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn.attention.varlen import varlen_attn

MOST_SCORES = 2**22
"""Of a head that a CPU holds at once; for more, such as those of 2048 tokens, it takes the slower kernel too."""


class Segments:
    """Where packed sequences begin and end."""

    def __init__(self, lengths: Sequence[int], device: torch.device) -> None:
        """lengths: tokens of each, in their order."""
        self.lengths, self.device = tuple(lengths), device
        self.runs = [(len(list(same)), length) for length, same in groupby(self.lengths)]
        """(count, length) of neighbours of equal length."""
        self.uniform = len(self.runs) == 1
        """Whether all are equally long."""

    @cached_property
    def boundaries(self) -> Tensor:
        """(n + 1,) int32: where each begins, and where the last ends."""
        ends = torch.tensor([0, *self.lengths]).cumsum(0)
        return ends.int().to(self.device)

    @property
    def longest(self) -> int:
        return max(self.lengths)

    def split(self, x: Tensor) -> Sequence[Tensor]:
        """(tokens, ...) -> (count, length, ...) for each run."""
        # one split has one backward; slices would have a full-size gradient each
        parts = x.split([count * length for count, length in self.runs])
        return [part.unflatten(0, run) for part, run in zip(parts, self.runs, strict=True)]


class Words:
    """Which of the captions' tokens are words, in the two forms that the two kinds of attention need."""

    def __init__(self, mask: Tensor) -> None:
        """mask: (clips, m) bool; at least one in a row."""
        self.mask = mask
        self.bias = torch.zeros(mask.shape, device=mask.device).masked_fill(~mask, -torch.inf)[:, None, None]
        """(clips, 1, 1, m): 0 for a word, -inf where the caption has ended."""

    @cached_property
    def packed(self) -> tuple[Tensor, Segments]:
        """Places of the words among all (clips * m), and their segments. Waits for the device, once a forward."""
        segments = Segments(self.mask.sum(1).tolist(), self.mask.device)
        return self.mask.flatten().nonzero()[:, 0], segments


def attend(q: Tensor, k: Tensor, v: Tensor, segments: Segments) -> Tensor:
    """Softmax attention within each sequence. q, k, v: (tokens, heads, head_dim). Returns the shape of q."""
    if segments.uniform:
        return _dense(*(x.unflatten(0, segments.runs[0]) for x in (q, k, v))).flatten(0, 1)
    return _attend_mixed(q, k, v, segments)


def cross_attend(q: Tensor, k: Tensor, v: Tensor, segments: Segments, words: Words) -> Tensor:
    """Attention from each clip's tokens to its own caption.

    q: (tokens, heads, head_dim) in `segments`; k, v: (clips, m, heads, head_dim). Returns the shape of q.
    """
    if segments.uniform:
        return _dense(q.unflatten(0, segments.runs[0]), k, v, words.bias).flatten(0, 1)
    return _cross_attend_mixed(q, k, v, segments, words)


# Each mixture of lengths is another program, and torch.compile gives up after eight of them: it leaves these alone.
@torch.compiler.disable
def _attend_mixed(q: Tensor, k: Tensor, v: Tensor, segments: Segments) -> Tensor:
    assert len(q) == sum(segments.lengths), f"{len(q)} tokens, but the segments hold {sum(segments.lengths)}"
    if _flash(q):
        return _varlen(q, k, v, segments, segments)
    runs = zip(*(segments.split(x) for x in (q, k, v)), strict=True)
    return torch.cat([_dense(*run).flatten(0, 1) for run in runs])


@torch.compiler.disable
def _cross_attend_mixed(q: Tensor, k: Tensor, v: Tensor, segments: Segments, words: Words) -> Tensor:
    if _flash(q):
        places, of_words = words.packed
        return _varlen(q, k.flatten(0, 1)[places], v.flatten(0, 1)[places], segments, of_words)
    counts = [count for count, _ in segments.runs]
    runs = zip(segments.split(q), *(x.split(counts) for x in (k, v, words.bias)), strict=True)
    return torch.cat([_dense(*run).flatten(0, 1) for run in runs])


def _flash(q: Tensor) -> bool:
    """Whether this is the flash kernel's: it knows 16-bit numbers only."""
    return q.is_cuda and q.dtype in (torch.bfloat16, torch.float16)


def _varlen(q: Tensor, k: Tensor, v: Tensor, of_q: Segments, of_k: Segments) -> Tensor:
    out = varlen_attn(q, k, v, of_q.boundaries, of_k.boundaries, of_q.longest, of_k.longest)
    assert isinstance(out, Tensor)  # the softmax sums, which would come with it, were not asked for
    return out


def _dense(q: Tensor, k: Tensor, v: Tensor, bias: Tensor | None = None) -> Tensor:
    """(b, n, heads, head_dim) against (b, m, heads, head_dim). On a CPU the plain product is several times faster than
    torch's fused kernel at our sizes: forward and backward of (32, 80, 3, 32) in bfloat16 4.6 ms against 13 ms. But it
    holds all scores at once."""
    q, k, v = (x.transpose(1, 2) for x in (q, k, v))
    if q.is_cuda or q.shape[-2] * k.shape[-2] > MOST_SCORES:
        mask = None if bias is None else bias.to(q.dtype)
        return F.scaled_dot_product_attention(q, k, v, attn_mask=mask).transpose(1, 2)
    scores = q @ (k * k.shape[-1] ** -0.5).transpose(-1, -2)
    if bias is not None:
        scores = scores + bias.to(scores.dtype)
    return (torch.softmax(scores, dim=-1).to(v.dtype) @ v).transpose(1, 2)
