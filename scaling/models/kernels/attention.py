"""One `attend` for packed clips: every clip attends to itself alone, and no padding is ever a key or a query.

Neighboring clips of equal length are a run. On a CPU, and wherever the whole batch is one run, each run is one dense
product; on a GPU a batch of several runs is one call of torch's variable-length flash attention.
"""

from collections.abc import Sequence
from functools import cached_property
from itertools import groupby

import torch
import torch.nn.functional as F
from torch import Tensor

MOST_SCORES = 2**22
"""Most scores of one head that are held at once on a CPU. Where there are more, as for 2048 tokens, torch's fused
kernel is used, which is slower but does not hold them."""


class Segments:
    """Where packed sequences begin and end."""

    def __init__(self, lengths: Sequence[int], device: torch.device) -> None:
        """lengths: the number of tokens of each sequence, in their order."""
        self.lengths, self.device = tuple(lengths), device
        self.runs = [(len(list(neighbors)), length) for length, neighbors in groupby(self.lengths)]
        """(count, length) of neighbors of equal length."""
        self.uniform = len(self.runs) == 1
        """Whether all sequences are equally long."""

    @cached_property
    def boundaries(self) -> Tensor:
        """(sequences + 1,) int32: where each sequence begins, and where the last one ends."""
        ends = torch.tensor([0, *self.lengths]).cumsum(0)
        return ends.int().to(self.device)

    @property
    def longest(self) -> int:
        return max(self.lengths)

    def split(self, x: Tensor) -> list[Tensor]:
        """(tokens, ...) -> (count, length, ...) for each run."""
        # one split has one backward; slices would have a full-size gradient each
        parts = torch.split(x, [count * length for count, length in self.runs])
        return [torch.unflatten(part, 0, run) for part, run in zip(parts, self.runs, strict=True)]


class TextMask:
    """Which tokens of the captions are real ones and not padding, in the forms that the kinds of attention need."""

    def __init__(self, mask: Tensor) -> None:
        """mask: (clips, m) bool, True for real tokens; at least one in each row."""
        self.mask = mask
        self.bias = torch.zeros(mask.shape, device=mask.device).masked_fill(~mask, -torch.inf)[:, None, None]
        """(clips, 1, 1, m): what is added to scores, 0 for a real token and -inf for padding."""

    @cached_property
    def packed(self) -> tuple[Tensor, Segments]:
        """The places of the real tokens among all (clips * m), and their segments. Waits for the device, once in a
        forward pass."""
        segments = Segments(self.mask.sum(1).tolist(), self.mask.device)
        return self.mask.flatten().nonzero()[:, 0], segments


def attend(q: Tensor, k: Tensor, v: Tensor, segments: Segments) -> Tensor:
    """Softmax attention within each sequence. q, k, v: (tokens, heads, head_dim). Returns the shape of q."""
    if segments.uniform:
        return _dense(*(torch.unflatten(x, 0, segments.runs[0]) for x in (q, k, v))).flatten(0, 1)
    return _attend_mixed(q, k, v, segments)


def attend_reference(q: Tensor, k: Tensor, v: Tensor, lengths: Sequence[int]) -> Tensor:
    """softmax(q k^T / sqrt(head_dim)) v for one sequence after another."""
    sequences = zip(*(torch.split(x, list(lengths)) for x in (q, k, v)), strict=True)
    return torch.cat([_softmax_attention(*sequence) for sequence in sequences])


def cross_attend(q: Tensor, k: Tensor, v: Tensor, segments: Segments, text: TextMask) -> Tensor:
    """Attention from each clip's tokens to its own caption.

    q: (tokens, heads, head_dim) in `segments`; k, v: (clips, m, heads, head_dim). Returns the shape of q.
    """
    if segments.uniform:
        return _dense(torch.unflatten(q, 0, segments.runs[0]), k, v, text.bias).flatten(0, 1)
    return _cross_attend_mixed(q, k, v, segments, text)


def cross_attend_reference(q: Tensor, k: Tensor, v: Tensor, lengths: Sequence[int], mask: Tensor) -> Tensor:
    """softmax(q k^T / sqrt(head_dim)) v for one clip after another, over the real tokens of its caption."""
    clips = zip(torch.split(q, list(lengths)), k, v, mask, strict=True)
    return torch.cat([_softmax_attention(q_clip, k_clip[real], v_clip[real]) for q_clip, k_clip, v_clip, real in clips])


def _softmax_attention(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """q: (n, heads, head_dim); k, v: (m, heads, head_dim)."""
    weights = torch.softmax(torch.einsum("nhd,mhd->hnm", q, k) / q.shape[-1] ** 0.5, dim=-1)
    return torch.einsum("hnm,mhd->nhd", weights, v)


def leave_mixed_lengths_uncompiled() -> None:
    """To be called before torch.compile compiles anything that attends: each mixture of lengths would be another
    program, and it gives up after eight of them. Not a decorator, because `torch.compiler.disable` imports the whole
    compiler, which takes half as long as importing torch."""
    global _attend_mixed, _cross_attend_mixed
    _attend_mixed = torch.compiler.disable(_attend_mixed)  # type: ignore[no-untyped-call]
    _cross_attend_mixed = torch.compiler.disable(_cross_attend_mixed)  # type: ignore[no-untyped-call]


def _attend_mixed(q: Tensor, k: Tensor, v: Tensor, segments: Segments) -> Tensor:
    assert len(q) == sum(segments.lengths), f"{len(q)} tokens, but the segments hold {sum(segments.lengths)}"
    if _is_for_flash(q):
        return _variable_length(q, k, v, segments, segments)
    runs = zip(*(segments.split(x) for x in (q, k, v)), strict=True)
    return torch.cat([_dense(*run).flatten(0, 1) for run in runs])


def _cross_attend_mixed(q: Tensor, k: Tensor, v: Tensor, segments: Segments, text: TextMask) -> Tensor:
    if _is_for_flash(q):
        places, text_segments = text.packed
        return _variable_length(q, k.flatten(0, 1)[places], v.flatten(0, 1)[places], segments, text_segments)
    counts = [count for count, _ in segments.runs]
    runs = zip(segments.split(q), *(torch.split(x, counts) for x in (k, v, text.bias)), strict=True)
    return torch.cat([_dense(*run).flatten(0, 1) for run in runs])


def _is_for_flash(q: Tensor) -> bool:
    """Whether the flash kernel can be used: it knows 16-bit numbers only."""
    return q.is_cuda and q.dtype in (torch.bfloat16, torch.float16)


def _variable_length(q: Tensor, k: Tensor, v: Tensor, q_segments: Segments, k_segments: Segments) -> Tensor:
    from torch.nn.attention.varlen import varlen_attn  # its import takes as long as half of torch's

    out = varlen_attn(q, k, v, q_segments.boundaries, k_segments.boundaries, q_segments.longest, k_segments.longest)
    assert isinstance(out, Tensor)  # without the sums of the softmax, which were not asked for
    return out


def _dense(q: Tensor, k: Tensor, v: Tensor, bias: Tensor | None = None) -> Tensor:
    """(b, n, heads, head_dim) against (b, m, heads, head_dim). On a CPU the plain product is several times faster than
    torch's fused kernel at our sizes: forward and backward of (32, 80, 3, 32) in bfloat16 take 4.6 ms against 13 ms.
    But it holds all scores at once."""
    q, k, v = (x.transpose(1, 2) for x in (q, k, v))
    if q.is_cuda or q.shape[-2] * k.shape[-2] > MOST_SCORES:
        mask = None if bias is None else bias.to(q.dtype)
        return F.scaled_dot_product_attention(q, k, v, attn_mask=mask).transpose(1, 2)
    scores = q @ (k * k.shape[-1] ** -0.5).transpose(-1, -2)
    if bias is not None:
        scores = scores + bias.to(scores.dtype)
    return (torch.softmax(scores, dim=-1).to(v.dtype) @ v).transpose(1, 2)
