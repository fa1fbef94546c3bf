"""What the DiT promises: clips that never see each other, whatever they are packed with."""

import math

import pytest
import torch

from scaling.accounting.geometry import TEXT_DIM
from scaling.core.specs import DiTSpec
from scaling.models.dit import DiT, patchify, unpatchify
from scaling.models.kernels.rotary import normalize_and_rotate
from scaling.models.rope import rotation
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


def test_rotation_depends_on_differences_alone():
    torch.manual_seed(0)
    grid, head_dim = (3, 4, 5), 16
    cos, sin = rotation(grid, head_dim, torch.device("cpu"))
    q, k = (normalize_and_rotate(x.expand(60, -1), torch.ones(head_dim), cos, sin) for x in torch.randn(2, 1, head_dim))
    scores = (q @ k.T).reshape(*grid, *grid)
    torch.testing.assert_close(scores[0, 1, 2, 1, 2, 4], scores[1, 2, 0, 2, 3, 2], rtol=0, atol=1e-5)
    assert not torch.allclose(scores[0, 0, 0, 0, 0, 1], scores[0, 0, 0, 0, 1, 0])


@pytest.mark.parametrize("modulation", ["shared", "per_block"])
def test_packed_equals_one_by_one(modulation):
    model, captions = dit(modulation=modulation), caption(len(GRIDS))
    clips = [torch.randn(math.prod(grid), CHANNELS * 4) for grid in GRIDS]
    t_flow = torch.tensor([0.1, 0.9, 0.5, 0.3])
    conditioning = [torch.arange(len(clip)) < 2 for clip in clips]
    arguments = (captions.states, captions.mask, captions.pooled, torch.cat(conditioning))
    packed = model(torch.cat(clips), GRIDS, t_flow, *arguments)
    packed.square().sum().backward()
    gradients = {name: parameter.grad.clone() for name, parameter in model.named_parameters()}
    model.zero_grad()
    separate = []
    for i, clip in enumerate(clips):
        text = captions.rows([i])
        arguments = (text.states, text.mask, text.pooled, conditioning[i])
        separate.append(model(clip, [GRIDS[i]], t_flow[i : i + 1], *arguments))
        separate[-1].square().sum().backward()
    torch.testing.assert_close(packed, torch.cat(separate), rtol=1e-5, atol=1e-5)
    for name, parameter in model.named_parameters():
        assert (gradients[name] - parameter.grad).norm() <= 1e-5 * parameter.grad.norm(), name


@pytest.mark.parametrize("modulation", ["shared", "per_block"])
@pytest.mark.parametrize("grids", [GRIDS, GRIDS[:1] * 2])
def test_branches_are_summed_in_float32_even_under_autocast(modulation, grids):
    model, captions, types = dit(modulation=modulation), caption(len(grids)), []
    for block in model.blocks:
        block.register_forward_hook(lambda block, inputs, output: types.extend([inputs[0].dtype, output.dtype]))
    patches = torch.randn(sum(map(math.prod, grids)), CHANNELS * 4)
    with torch.autocast("cpu", torch.bfloat16):
        model(patches, grids, torch.rand(len(grids)), captions.states, captions.mask, captions.pooled)
    assert types == [torch.float32] * 2 * len(model.blocks)


def test_a_dropped_caption_is_forgotten():
    model = dit()
    first, second = caption(2), caption(2)
    patches, grids, t_flow = torch.randn(16, 16), [(2, 2, 2)] * 2, torch.tensor([0.5, 0.5])
    both_clips = torch.ones(2, dtype=torch.bool)
    outputs = []
    for text in (first, second):
        dropped = text.dropped(both_clips)
        outputs.append(model(patches, grids, t_flow, dropped.states, dropped.mask, dropped.pooled))
    assert torch.equal(*outputs)
    assert outputs[0].isfinite().all()
    conditional = model(patches, grids, t_flow, first.states, first.mask, first.pooled)
    assert not torch.allclose(conditional, outputs[0])


def test_conditioning_frames_are_marked():
    model, text = dit(), caption(1)
    patches, t_flow = torch.randn(24, 16), torch.tensor([0.5])
    arguments = (patches, [(3, 2, 4)], t_flow, text.states, text.mask, text.pooled)
    none, first = torch.zeros(24, dtype=torch.bool), torch.arange(24) < 8
    torch.testing.assert_close(model(*arguments, none), model(*arguments))
    assert not torch.allclose(model(*arguments, first)[8:], model(*arguments)[8:])


@pytest.mark.parametrize("modulation", ["shared", "per_block"])
def test_parameter_groups_cover_the_model(modulation):
    model = dit(modulation=modulation)
    assert sum(model.count_params().values()) == sum(parameter.numel() for parameter in model.parameters())
    assert all(matrix.ndim == 2 for matrix in [*model.matrices(), *model.output_matrices()])
    assert sorted(model.matrices().values()) == sorted([3, 2, 1, 1, 1, 1, 1] * model.spec.depth)
    assert {id(p) for p in model.matrices()}.isdisjoint(id(p) for p in model.output_matrices())
