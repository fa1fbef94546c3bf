"""What the DiT promises: clips that never see each other, whatever they are packed with."""

import math

import pytest
import torch

from scaling.accounting.geometry import TEXT_DIM
from scaling.core.specs import DiTSpec
from scaling.models.attention import Segments, Words, attend, cross_attend
from scaling.models.dit import DiT, patchify, unpatchify
from scaling.models.rope import RMSNormRotate, rotation
from scaling.text.encoded_captions import EncodedCaptions

WORDS, CHANNELS = 6, 4
GRIDS = [(2, 3, 4), (1, 2, 2), (2, 3, 4), (3, 1, 5)]


def dit(**changes):
    torch.manual_seed(0)
    model = DiT(DiTSpec(width=32, depth=2, head_dim=16, **changes), CHANNELS, TEXT_DIM)
    for parameter in model.parameters():  # the zero-initialised ones too, or the output says nothing
        torch.nn.init.normal_(parameter, std=0.1)
    return model


def caption(clips):
    mask = torch.ones(clips, WORDS, dtype=torch.bool)
    mask[::2, 3:] = False
    return EncodedCaptions(torch.randn(clips, WORDS, TEXT_DIM), mask, torch.randn(clips, TEXT_DIM))


def test_patchify_round_trip():
    latents = torch.randn(2, 3, 4, 6, 5)
    assert torch.equal(unpatchify(patchify(latents, 2), (3, 2, 3), 2), latents)


@pytest.mark.parametrize("most_scores", [2**22, 8])
def test_attend_equals_masked_attention(monkeypatch, most_scores):
    monkeypatch.setattr("scaling.models.attention.MOST_SCORES", most_scores)
    lengths = (3, 3, 5, 1, 3)
    q, k, v = torch.randn(3, sum(lengths), 2, 8)
    clip = torch.arange(len(lengths)).repeat_interleave(torch.tensor(lengths))
    oracle = masked(q, k, v, clip[:, None] == clip[None, :])
    torch.testing.assert_close(attend(q, k, v, Segments(lengths, q.device)), oracle, rtol=0, atol=1e-5)


@pytest.mark.parametrize("most_scores", [2**22, 8])
def test_cross_attend_equals_masked_attention(monkeypatch, most_scores):
    monkeypatch.setattr("scaling.models.attention.MOST_SCORES", most_scores)
    lengths, words = (3, 3, 5, 1), 4
    q, k, v = torch.randn(sum(lengths), 2, 8), torch.randn(4, words, 2, 8), torch.randn(4, words, 2, 8)
    mask = torch.arange(words) < torch.tensor([4, 2, 1, 3])[:, None]
    clip = torch.arange(len(lengths)).repeat_interleave(torch.tensor(lengths))
    own = (clip[:, None] == torch.arange(4).repeat_interleave(words)[None, :]) & mask.flatten()[None, :]
    oracle = masked(q, k.flatten(0, 1), v.flatten(0, 1), own)
    found = cross_attend(q, k, v, Segments(lengths, q.device), Words(mask))
    torch.testing.assert_close(found, oracle, rtol=0, atol=1e-5)


def masked(q, k, v, mask):
    """Attention over everything with a mask: (tokens, heads, head_dim)."""
    q, k, v = (x.transpose(0, 1) for x in (q, k, v))
    return torch.nn.functional.scaled_dot_product_attention(q, k, v, attn_mask=mask).transpose(0, 1)


def test_rotation_depends_on_differences_alone():
    torch.manual_seed(0)
    grid, head_dim = (3, 4, 5), 16
    cos, sin = rotation(grid, head_dim, torch.device("cpu"))
    q, k = (RMSNormRotate.apply(x.expand(60, -1), torch.ones(head_dim), cos, sin) for x in torch.randn(2, 1, head_dim))
    scores = (q @ k.T).reshape(*grid, *grid)
    torch.testing.assert_close(scores[0, 1, 2, 1, 2, 4], scores[1, 2, 0, 2, 3, 2], rtol=0, atol=1e-5)
    assert not torch.allclose(scores[0, 0, 0, 0, 0, 1], scores[0, 0, 0, 0, 1, 0])


def test_normalisation_and_rotation_are_those_of_torch():
    cos, sin = (x[:, None, None].double() for x in rotation((1, 2, 3), 16, torch.device("cpu")))
    x, gain = torch.randn(2, 6, 2, 3, 16).double(), torch.randn(2, 1, 16).double()
    normal = torch.nn.functional.rms_norm(x, (16,), eps=1e-6) * gain
    pairs = torch.complex(*normal.chunk(2, dim=-1)) * torch.complex(cos, sin)[..., :8]
    found = RMSNormRotate.apply(x, gain, cos, sin)
    torch.testing.assert_close(found, torch.cat([pairs.real, pairs.imag], dim=-1))
    inputs = (x.requires_grad_(), gain.requires_grad_())
    assert torch.autograd.gradcheck(lambda x, gain: RMSNormRotate.apply(x, gain, cos, sin), inputs)


@pytest.mark.parametrize("modulation", ["shared", "per_block"])
def test_packed_equals_one_by_one(modulation):
    model, captions = dit(modulation=modulation), caption(len(GRIDS))
    clips = [torch.randn(math.prod(grid), CHANNELS * 4) for grid in GRIDS]
    t_flow = torch.tensor([0.1, 0.9, 0.5, 0.3])
    given = [torch.arange(len(clip)) < 2 for clip in clips]
    arguments = (captions.states, captions.mask, captions.pooled, torch.cat(given))
    together = model(torch.cat(clips), GRIDS, t_flow, *arguments)
    together.square().sum().backward()
    gradients = {name: parameter.grad.clone() for name, parameter in model.named_parameters()}
    model.zero_grad()
    apart = []
    for i, clip in enumerate(clips):
        one = captions.rows([i])
        apart.append(model(clip, [GRIDS[i]], t_flow[i : i + 1], one.states, one.mask, one.pooled, given[i]))
        apart[-1].square().sum().backward()
    torch.testing.assert_close(together, torch.cat(apart), rtol=1e-5, atol=1e-5)
    for name, parameter in model.named_parameters():
        assert (gradients[name] - parameter.grad).norm() <= 1e-5 * parameter.grad.norm(), name


@pytest.mark.parametrize("modulation", ["shared", "per_block"])
@pytest.mark.parametrize("grids", [GRIDS, GRIDS[:1] * 2])
def test_branches_are_summed_in_float32_even_under_autocast(modulation, grids):
    model, captions, kinds = dit(modulation=modulation), caption(len(grids)), []
    for block in model.blocks:
        block.register_forward_hook(lambda block, given, answer: kinds.extend([given[0].dtype, answer.dtype]))
    patches = torch.randn(sum(map(math.prod, grids)), CHANNELS * 4)
    with torch.autocast("cpu", torch.bfloat16):
        model(patches, grids, torch.rand(len(grids)), captions.states, captions.mask, captions.pooled)
    assert kinds == [torch.float32] * 2 * len(model.blocks)


def test_a_dropped_caption_is_forgotten():
    model = dit()
    one, other = caption(2), caption(2)
    patches, grids, t_flow = torch.randn(16, 16), [(2, 2, 2)] * 2, torch.tensor([0.5, 0.5])
    everything = torch.ones(2, dtype=torch.bool)
    outputs = []
    for words in (one, other):
        dropped = words.dropped(everything)
        outputs.append(model(patches, grids, t_flow, dropped.states, dropped.mask, dropped.pooled))
    assert torch.equal(*outputs)
    assert outputs[0].isfinite().all()
    told = model(patches, grids, t_flow, one.states, one.mask, one.pooled)
    assert not torch.allclose(told, outputs[0])


def test_given_frames_are_told_from_noise():
    model, words = dit(), caption(1)
    patches, t_flow = torch.randn(24, 16), torch.tensor([0.5])
    arguments = (patches, [(3, 2, 4)], t_flow, words.states, words.mask, words.pooled)
    none, first = torch.zeros(24, dtype=torch.bool), torch.arange(24) < 8
    torch.testing.assert_close(model(*arguments, none), model(*arguments))
    assert not torch.allclose(model(*arguments, first)[8:], model(*arguments)[8:])


@pytest.mark.parametrize("modulation", ["shared", "per_block"])
def test_parameter_groups_cover_the_model(modulation):
    model = dit(modulation=modulation)
    assert sum(model.count_params().values()) == sum(parameter.numel() for parameter in model.parameters())
    assert all(matrix.ndim == 2 for matrix in [*model.matrices(), *model.wide_matrices()])
    assert sorted(model.matrices().values()) == sorted([3, 2, 1, 1, 1, 1, 1] * model.spec.depth)
    assert {id(p) for p in model.matrices()}.isdisjoint(id(p) for p in model.wide_matrices())
