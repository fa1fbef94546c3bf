"""What the models promise: causality, images as one-frame videos, and clips that never see each other."""

import math

import pytest
import torch

from scaling.caption import Caption
from scaling.geometry import TEXT_DIM
from scaling.models.attention import attend
from scaling.models.dit import DiT, patchify, unpatchify
from scaling.models.rope import rotate, rotation
from scaling.models.vae import VAE, depth_to_space, space_to_depth
from scaling.presets import VAE_PRESETS
from scaling.sampling import sample
from scaling.specs import DiTSpec

WORDS, CHANNELS = 6, 4
GRIDS = [(2, 3, 4), (1, 2, 2), (2, 3, 4), (3, 1, 5)]


@pytest.fixture
def vae():
    torch.manual_seed(0)
    return VAE(VAE_PRESETS["tiny"])


def dit(**changes):
    torch.manual_seed(0)
    model = DiT(DiTSpec(width=32, depth=2, head_dim=16, **changes), CHANNELS, TEXT_DIM)
    for parameter in model.parameters():  # the zero-initialised ones too, or the output says nothing
        torch.nn.init.normal_(parameter, std=0.1)
    return model


def caption(clips):
    mask = torch.ones(clips, WORDS, dtype=torch.bool)
    mask[::2, 3:] = False
    return Caption(torch.randn(clips, WORDS, TEXT_DIM), mask, torch.randn(clips, TEXT_DIM))


def test_space_to_depth_round_trip():
    x = torch.randn(2, 3, 8, 4, 5)
    assert torch.equal(depth_to_space(space_to_depth(x, 2), 2), x)
    latents = torch.randn(2, 3, 4, 6, 5)
    assert torch.equal(unpatchify(patchify(latents, 2), (3, 2, 3), 2), latents)


def test_vae_sizes(vae):
    mean, log_variance = vae.encode(torch.randn(2, 9, 32, 48, 3))
    assert mean.shape == log_variance.shape == (2, 3, 4, 6, 8)
    assert vae.decode(mean).shape == (2, 9, 32, 48, 3)


def test_an_image_is_a_one_frame_video(vae):
    clip = torch.randn(1, 9, 32, 32, 3)
    image, _ = vae.encode(clip[:, :1])
    video, _ = vae.encode(clip)
    torch.testing.assert_close(image[:, 0], video[:, 0], rtol=0, atol=1e-5)
    torch.testing.assert_close(vae.decode(image)[:, 0], vae.decode(video)[:, 0], rtol=0, atol=1e-5)


@pytest.mark.parametrize("frame", [1, 4, 5, 8])
def test_no_latent_sees_a_later_frame(vae, frame):
    clip = torch.randn(1, 9, 32, 32, 3)
    changed = clip.clone()
    changed[:, frame] += 1
    before, after = vae.encode(clip)[0], vae.encode(changed)[0]
    first = math.ceil(frame / 4)
    assert torch.equal(before[:, :first], after[:, :first])
    assert not torch.allclose(before[:, first], after[:, first])


def test_vae_says_which_size_does_not_divide(vae):
    with pytest.raises(ValueError, match="8 frames, 32x32: needs 1 \\+ 4k frames"):
        vae.encode(torch.randn(1, 8, 32, 32, 3))
    with pytest.raises(ValueError, match="divisible by 8"):
        vae.encode(torch.randn(1, 9, 32, 36, 3))


def test_attend_equals_masked_attention():
    lengths = [3, 3, 5, 1, 3]
    q, k, v = torch.randn(3, sum(lengths), 2, 8)
    clip = torch.arange(len(lengths)).repeat_interleave(torch.tensor(lengths))
    mask = clip[:, None] == clip[None, :]
    oracle = torch.nn.functional.scaled_dot_product_attention(
        q.transpose(0, 1), k.transpose(0, 1), v.transpose(0, 1), attn_mask=mask
    ).transpose(0, 1)
    torch.testing.assert_close(attend(q, k, v, lengths), oracle, rtol=0, atol=1e-5)


def test_rotation_depends_on_differences_alone():
    torch.manual_seed(0)
    grid, head_dim = (3, 4, 5), 16
    cos, sin = rotation(grid, head_dim, torch.device("cpu"))
    q, k = torch.randn(2, 1, 1, head_dim)
    scores = (rotate(q.expand(60, 1, -1), cos, sin)[:, 0]) @ (rotate(k.expand(60, 1, -1), cos, sin)[:, 0]).T
    scores = scores.reshape(*grid, *grid)
    torch.testing.assert_close(scores[0, 1, 2, 1, 2, 4], scores[1, 2, 0, 2, 3, 2], rtol=0, atol=1e-5)
    assert not torch.allclose(scores[0, 0, 0, 0, 0, 1], scores[0, 0, 0, 0, 1, 0])


def test_packed_equals_one_by_one():
    model, captions = dit(), caption(len(GRIDS))
    clips = [torch.randn(math.prod(grid), CHANNELS * 4) for grid in GRIDS]
    t_flow = torch.tensor([0.1, 0.9, 0.5, 0.3])
    together = model(torch.cat(clips), GRIDS, t_flow, captions.states, captions.mask, captions.pooled)
    together.square().sum().backward()
    gradients = {name: parameter.grad.clone() for name, parameter in model.named_parameters()}
    model.zero_grad()
    apart = []
    for i, clip in enumerate(clips):
        one = captions.rows([i])
        apart.append(model(clip, [GRIDS[i]], t_flow[i : i + 1], one.states, one.mask, one.pooled))
        apart[-1].square().sum().backward()
    torch.testing.assert_close(together, torch.cat(apart), rtol=1e-5, atol=1e-5)
    for name, parameter in model.named_parameters():
        torch.testing.assert_close(gradients[name], parameter.grad, rtol=1e-4, atol=1e-4)


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


def test_parameter_groups_cover_the_model():
    model = dit()
    assert sum(model.count_params().values()) == sum(parameter.numel() for parameter in model.parameters())
    assert all(matrix.ndim == 2 for matrix in model.matrices())


@pytest.mark.parametrize("prediction", ["velocity", "clean"])
def test_a_sample_does_not_depend_on_its_batch(prediction):
    model, words = dit(prediction=prediction), caption(3)
    seeds = [(0, 5, 0), (0, 5, 1), (0, 5, 2)]
    together = sample(model, words, (2, 4, 4), seeds, steps=3, guidance=2.0)
    assert together.shape == (3, 2, 4, 4, CHANNELS)
    alone = sample(model, words.rows([1]), (2, 4, 4), seeds[1:2], steps=3, guidance=2.0)
    # bfloat16 arithmetic, so equal to its rounding
    torch.testing.assert_close(together[1:2], alone, rtol=0.05, atol=0.05)
    assert not torch.allclose(together[0], together[1])
