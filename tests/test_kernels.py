"""What is written for speed equals the plain reference beside it, forward and backward.

In float64 to its last digits, on every kind of shape that a batch has; in bfloat16, as it is trained, to that type's.
"""

import math

import pytest
import torch

from scaling.models.kernels.attention import (
    Segments,
    TextMask,
    attend,
    attend_reference,
    cross_attend,
    cross_attend_reference,
)
from scaling.models.kernels.depth import (
    depth_to_space,
    depth_to_space_reference,
    space_to_depth,
    space_to_depth_reference,
)
from scaling.models.kernels.linear import FusedLinear, fused_linear_reference
from scaling.models.kernels.packing import (
    Layout,
    scale_and_shift,
    scale_and_shift_reference,
    sum_by_clip,
    sum_by_clip_reference,
)
from scaling.models.kernels.rotary import normalize_and_rotate, normalize_and_rotate_reference
from scaling.models.rope import rotation

NATIVE = [(1, 4, 4), (1, 3, 6), (2, 4, 4), (3, 2, 4), (3, 4, 2), (5, 3, 3), (5, 4, 4), (9, 2, 2)]
"""Tokens along t, h, w of the kinds of clips of the native sweep: images, durations, resolutions, aspect ratios."""
BATCHES = {
    "one clip": [(5, 4, 4)],
    "clips of one shape": [(5, 4, 4)] * 3,
    "images": [(1, 4, 4)] * 5,
    "one length, two shapes": [(2, 4, 4), (2, 2, 8)],
    "native": NATIVE,
    "native, in runs": [grid for grid in NATIVE for _ in range(2)],
    "a single token": [(1, 1, 1), (3, 1, 5), (1, 1, 1)],
}
TYPES = {torch.float64: {"rtol": 1e-9, "atol": 1e-12}, torch.bfloat16: {"rtol": 0.05, "atol": 0.05}}
WORDS, HEADS, CHANNELS = 5, 2, 16
CPU = torch.device("cpu")

by_batch = pytest.mark.parametrize("grids", BATCHES.values(), ids=list(BATCHES))
by_type = pytest.mark.parametrize("dtype", TYPES)


def lengths_of(grids):
    return tuple(map(math.prod, grids))


def normal(*shape, dtype=torch.float64):
    return torch.randn(shape, dtype=torch.float64).to(dtype).requires_grad_()


def assert_agree(kernel, reference, inputs):
    """Values and all gradients, for a gradient of the output that is like any other. The reference is in float64."""
    exact = [x.detach().double().requires_grad_() for x in inputs]
    actual, expected = kernel(*inputs), reference(*exact)
    upstream = torch.randn(expected.shape, dtype=torch.float64).to(actual.dtype)
    gradients = torch.autograd.grad(actual, inputs, upstream), torch.autograd.grad(expected, exact, upstream.double())
    tolerance = TYPES[inputs[0].dtype]
    torch.testing.assert_close(actual.double(), expected, **tolerance)
    for grad, grad_expected in zip(*gradients, strict=True):
        # bfloat16's error of a sum grows with what is summed
        size = grad_expected.abs().max().clamp(min=1)
        torch.testing.assert_close(grad.double() / size, grad_expected / size, **tolerance)


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


@by_type
@by_batch
@pytest.mark.parametrize("most_scores", [2**22, 8])
def test_attend(monkeypatch, grids, dtype, most_scores):
    monkeypatch.setattr("scaling.models.kernels.attention.MOST_SCORES", most_scores)
    lengths = lengths_of(grids)
    inputs = [normal(sum(lengths), HEADS, CHANNELS, dtype=dtype) for _ in "qkv"]
    segments = Segments(lengths, CPU)
    assert_agree(lambda *x: attend(*x, segments), lambda *x: attend_reference(*x, lengths), inputs)


@by_type
@by_batch
@pytest.mark.parametrize("most_scores", [2**22, 8])
def test_cross_attend(monkeypatch, grids, dtype, most_scores):
    monkeypatch.setattr("scaling.models.kernels.attention.MOST_SCORES", most_scores)
    lengths, clips = lengths_of(grids), len(grids)
    mask = torch.arange(WORDS) < (torch.arange(clips) % WORDS + 1)[:, None]
    q = normal(sum(lengths), HEADS, CHANNELS, dtype=dtype)
    k, v = (normal(clips, WORDS, HEADS, CHANNELS, dtype=dtype) for _ in "kv")
    segments, text = Segments(lengths, CPU), TextMask(mask)
    assert_agree(
        lambda *x: cross_attend(*x, segments, text), lambda *x: cross_attend_reference(*x, lengths, mask), [q, k, v]
    )


def test_the_references_of_attention_are_torchs():
    """Attention over all tokens with a mask that leaves each its own clip."""
    lengths, words = (3, 3, 5, 1), 4
    clip = torch.arange(len(lengths)).repeat_interleave(torch.tensor(lengths))
    q, k, v = (normal(sum(lengths), HEADS, CHANNELS) for _ in "qkv")
    expected = masked(q, k, v, clip[:, None] == clip[None, :])
    torch.testing.assert_close(attend_reference(q, k, v, lengths), expected)
    k, v = (normal(len(lengths), words, HEADS, CHANNELS) for _ in "kv")
    real = torch.arange(words) < torch.tensor([4, 2, 1, 3])[:, None]
    visible = (clip[:, None] == torch.arange(4).repeat_interleave(words)[None, :]) & real.flatten()[None, :]
    expected = masked(q, k.flatten(0, 1), v.flatten(0, 1), visible)
    torch.testing.assert_close(cross_attend_reference(q, k, v, lengths, real), expected)


def masked(q, k, v, mask):
    """(tokens, heads, head_dim)."""
    q, k, v = (x.transpose(0, 1) for x in (q, k, v))
    return torch.nn.functional.scaled_dot_product_attention(q, k, v, attn_mask=mask).transpose(0, 1)


@by_type
@by_batch
def test_normalize_and_rotate(grids, dtype):
    layout = Layout(grids, CHANNELS, CPU)
    x = normal(layout.rows, sum(lengths_of(grids)) // layout.rows, 2, HEADS, CHANNELS, dtype=dtype)
    cos, sin = layout.cos.double(), layout.sin.double()
    assert_agree(
        lambda x, gain: normalize_and_rotate(x, gain, cos, sin),
        lambda x, gain: normalize_and_rotate_reference(x, gain, cos, sin),
        [x, normal(2, 1, CHANNELS, dtype=dtype)],
    )


@pytest.mark.parametrize("gain_shape", [(2, 1, 16), (16,), (1, 16)])
def test_the_gradient_of_normalize_and_rotate_is_that_of_differences(gain_shape):
    cos, sin = (x[:, None, None].double() for x in rotation((1, 2, 3), 16, CPU))
    inputs = (normal(2, 6, 2, 3, 16), normal(*gain_shape))
    assert torch.autograd.gradcheck(lambda x, gain: normalize_and_rotate(x, gain, cos, sin), inputs)


@by_type
@by_batch
def test_modulation_and_gates(grids, dtype):
    """Of clips of one shape, which broadcast, and of mixed shapes, which look their values up, whatever type x has:
    the values of clips are float32 or wider."""
    layout, lengths = Layout(grids, CHANNELS, CPU), torch.tensor(lengths_of(grids))
    clip_of_token = torch.arange(len(grids)).repeat_interleave(lengths)
    shape = layout.rows, sum(lengths) // layout.rows, 8
    of_clips = torch.promote_types(dtype, torch.float32)
    scale, shift, gate = (normal(len(grids), 8, dtype=of_clips) for _ in range(3))
    x, y = normal(*shape, dtype=of_clips), normal(*shape, dtype=dtype)

    def modulated(y, scale, shift):
        return scale_and_shift_reference(y.reshape(-1, 8), 1 + scale, shift, clip_of_token).reshape(shape)

    def gated(y, x, gate):
        return x + scale_and_shift_reference(y.reshape(-1, 8), gate, None, clip_of_token).reshape(shape)

    assert_agree(layout.modulate, modulated, [y, scale, shift])
    assert_agree(lambda y, x, gate: layout.add_gated(x, y, gate), gated, [y, x, gate])
    assert layout.add_gated(x, y, gate).dtype == layout.modulate(y, scale, shift).dtype == of_clips


@by_batch
@pytest.mark.parametrize("shifted", [True, False])
def test_the_gradient_of_scale_and_shift_is_that_of_differences(grids, shifted):
    lengths = torch.tensor(lengths_of(grids[:4]))
    clip_of_token = torch.arange(len(lengths)).repeat_interleave(lengths)
    x, factor, shift = normal(int(lengths.sum()), 2), normal(len(lengths), 2), normal(len(lengths), 2)
    inputs = (x, factor, shift) if shifted else (x, factor)
    assert torch.autograd.gradcheck(
        lambda x, factor, shift=None: scale_and_shift(x, factor, shift, clip_of_token, lengths), inputs
    )


@by_batch
def test_sum_by_clip(grids):
    lengths = torch.tensor(lengths_of(grids))
    clip_of_token, x = torch.arange(len(grids)).repeat_interleave(lengths), normal(int(lengths.sum()), 8)
    torch.testing.assert_close(sum_by_clip(x, clip_of_token, lengths), sum_by_clip_reference(x, lengths))


@by_type
def test_fused_linear(dtype):
    layer = FusedLinear(8, 6, parts=3).to(dtype)
    inputs = [normal(2, 5, 8, dtype=dtype), layer.weight, layer.bias]
    assert_agree(
        lambda x, weight, bias: torch.func.functional_call(layer, {"weight": weight, "bias": bias}, (x,)),
        lambda x, weight, bias: fused_linear_reference(x, weight, bias, 3),
        inputs,
    )


@pytest.mark.parametrize("factor", [1, 2, 4])
@pytest.mark.parametrize("frames", [1, 5])
def test_space_and_depth(factor, frames):
    """A permutation: equal to the last bit."""
    pixels = normal(2, frames, 8, 12, 3)
    depth = space_to_depth(pixels, factor)
    assert torch.equal(depth, space_to_depth_reference(pixels, factor))
    assert torch.equal(depth_to_space(depth, factor), pixels)
    assert torch.equal(depth_to_space_reference(depth, factor), pixels)
    assert_agree(lambda x: space_to_depth(x, factor), lambda x: space_to_depth_reference(x, factor), [pixels])
    assert_agree(
        lambda x: depth_to_space(x, factor),
        lambda x: depth_to_space_reference(x, factor),
        [depth.detach().requires_grad_()],
    )
