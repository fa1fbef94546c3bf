"""What the VAE promises, with both kinds of convolution: causality, images as one-frame videos, and chunks that give
what the whole clip gives in the memory of one chunk."""

import math
from itertools import pairwise

import numpy as np
import pytest
import torch

from scaling.accounting.presets import VAE_PRESETS
from scaling.core.specs import VAESpec, VAEStage
from scaling.diffusion import inference
from scaling.models.causal import CausalConv, FeatureCache, TemporalConv
from scaling.models.kernels.depth import depth_to_space, space_to_depth
from scaling.models.vae import VAE

LEVELS = (("space", 8), ("both", 12), ("both", 16), ("none", 16))
SPECS = {
    "tiny": VAE_PRESETS["tiny"],
    "full": VAESpec(
        patch=1,
        stages=tuple(VAEStage(width=width, down=down) for down, width in LEVELS),
        latent_channels=4,
        convolution="full",
    ),
    "full, time first": VAESpec(
        patch=4,
        stages=(VAEStage(width=6, down="time"), VAEStage(width=10, down="both")),
        latent_channels=4,
        convolution="full",
    ),
}


@pytest.fixture(params=list(SPECS))
def vae(request):
    torch.manual_seed(0)
    return VAE(SPECS[request.param]).requires_grad_(False)


def close(a, b):
    torch.testing.assert_close(a, b, rtol=0, atol=1e-5)


def test_space_to_depth_round_trip():
    x = torch.randn(2, 3, 8, 4, 5)
    assert torch.equal(depth_to_space(space_to_depth(x, 2), 2), x)


def test_sizes(vae):
    mean, log_variance = vae.encode(torch.randn(2, 9, 32, 48, 3))
    assert mean.shape == log_variance.shape == (2, 3, 4, 6, vae.spec.latent_channels)
    assert vae.decode(mean).shape == (2, 9, 32, 48, 3)


@pytest.mark.parametrize(
    ("name", "strides", "channels", "millions"),
    [
        ("small", (4, 8, 8), 16, 5.3),
        ("small16", (4, 16, 16), 48, 5.7),
        ("base", (4, 8, 8), 16, 126.9),  # as published: arXiv 2504.08685, table 5, Wan 2.1
        ("base16", (4, 16, 16), 48, 354),
    ],
)
def test_presets(name, strides, channels, millions):
    with torch.device("meta"):
        vae = VAE(VAE_PRESETS[name])
        pixels = torch.randn(1, 1 + 2 * strides[0], 3 * strides[1], 5 * strides[2], 3)
    mean, _ = vae.encode(pixels)
    assert mean.shape == (1, 3, 3, 5, channels)
    assert vae.decode(mean).shape == pixels.shape
    assert sum(parameter.numel() for parameter in vae.parameters()) / 1e6 == pytest.approx(millions, rel=0.01)


def test_an_image_is_a_one_frame_video(vae):
    clip = torch.randn(1, 9, 32, 32, 3)
    image, _ = vae.encode(clip[:, :1])
    video, _ = vae.encode(clip)
    close(image[:, 0], video[:, 0])
    close(vae.decode(image)[:, 0], vae.decode(video)[:, 0])


@pytest.mark.parametrize("frame", [1, 4, 5, 8])
def test_no_latent_sees_a_later_frame(vae, frame):
    clip = torch.randn(1, 9, 32, 32, 3)
    changed = clip.clone()
    changed[:, frame] += 1
    before, after = vae.encode(clip)[0], vae.encode(changed)[0]
    first = math.ceil(frame / 4)
    assert torch.equal(before[:, :first], after[:, :first])
    assert not torch.allclose(before[:, first], after[:, first])


@pytest.mark.parametrize("latent", [1, 2, 3])
def test_no_frame_sees_a_later_latent(vae, latent):
    latents = torch.randn(1, 4, 4, 4, vae.spec.latent_channels)
    changed = latents.clone()
    changed[:, latent] += 1
    before, after = vae.decode(latents), vae.decode(changed)
    first = 4 * latent - 3
    assert torch.equal(before[:, :first], after[:, :first])
    assert not torch.allclose(before[:, first : first + 4], after[:, first : first + 4])


def test_every_frame_of_a_chunk_reaches_its_latent(vae):
    clip = torch.randn(1, 5, 16, 16, 3, requires_grad=True)
    vae.encode(clip)[0][:, 1].sum().backward()
    assert (clip.grad.abs().amax((0, 2, 3, 4)) > 0).all()


@pytest.mark.parametrize("bounds", [(0, 1, 17), (0, 1, 5, 9, 13, 17), (0, 9, 13, 17), (0, 5, 17), (0, 13, 17)])
def test_chunks_encode_to_the_whole(vae, bounds):
    clip, cache = torch.randn(2, 17, 16, 24, 3), FeatureCache()
    parts = [vae.encode(clip[:, first:last], cache) for first, last in pairwise(bounds)]
    for full, chunked in zip(vae.encode(clip), zip(*parts, strict=True), strict=True):
        close(torch.cat(chunked, dim=1), full)


@pytest.mark.parametrize("bounds", [(0, 1, 5), (0, 1, 2, 3, 4, 5), (0, 3, 4, 5), (0, 2, 5), (0, 4, 5)])
def test_chunks_decode_to_the_whole(vae, bounds):
    latents, cache = torch.randn(2, 5, 2, 3, vae.spec.latent_channels), FeatureCache()
    parts = [vae.decode(latents[:, first:last], cache) for first, last in pairwise(bounds)]
    assert [part.shape[1] for part in parts] == [4 * (b - a) - 3 * (a == 0) for a, b in pairwise(bounds)]
    close(torch.cat(parts, dim=1), vae.decode(latents))


@pytest.mark.parametrize("name", list(VAE_PRESETS))
def test_every_preset_takes_a_clip_in_chunks(name):
    torch.manual_seed(0)
    vae = VAE(VAE_PRESETS[name]).requires_grad_(False)
    clip, cache = torch.randn(1, 9, vae.spec.spatial_stride, 2 * vae.spec.spatial_stride, 3), FeatureCache()
    mean, _ = vae.encode(clip)
    parts = [vae.encode(clip[:, first:last], cache)[0] for first, last in pairwise((0, 1, 5, 9))]
    close(torch.cat(parts, dim=1), mean)
    cache = FeatureCache()
    decoded = [vae.decode(latent, cache) for latent in mean.split(1, dim=1)]
    close(torch.cat(decoded, dim=1), vae.decode(mean))


def test_gradients_flow_through_chunks(vae):
    clip = torch.randn(1, 9, 16, 16, 3, requires_grad=True)
    cache = FeatureCache()
    chunked = torch.cat([vae.encode(part, cache)[0] for part in clip.split([1, 8], dim=1)], dim=1)
    gradients = [torch.autograd.grad(latents.square().sum(), clip)[0] for latents in (chunked, vae.encode(clip)[0])]
    close(*gradients)


def test_the_size_that_does_not_divide_is_named(vae):
    with pytest.raises(ValueError, match="clip of 8 frames, 32x32: needs 1 \\+ 4k frames"):
        vae.encode(torch.randn(1, 8, 32, 32, 3))
    with pytest.raises(ValueError, match="divisible by 8"):
        vae.encode(torch.randn(1, 9, 32, 36, 3))
    cache = FeatureCache()
    vae.encode(torch.randn(1, 5, 32, 32, 3), cache)
    with pytest.raises(ValueError, match="further chunk of 5 frames, 32x32: needs 4k frames"):
        vae.encode(torch.randn(1, 5, 32, 32, 3), cache)


class Watch:
    """The most frames, and the largest tensor, that any layer of a model takes or gives."""

    def __init__(self, model):
        self.frames = self.numel = 0
        for module in model.modules():
            module.register_forward_hook(self.see)

    def see(self, module, inputs, output):
        self.numel = max(self.numel, *(x.numel() for x in (*inputs, output) if torch.is_tensor(x)))
        if isinstance(module, CausalConv | TemporalConv):
            self.frames = max(self.frames, inputs[0].shape[1])


def frames_of(count, side=16):
    """Frames, one by one, of a video that is never whole in memory."""
    rng = np.random.default_rng(0)
    return (rng.integers(0, 256, (side, side, 3), dtype=np.uint8) for _ in range(count))


def test_a_long_video_takes_the_memory_of_one_chunk(vae, monkeypatch):
    monkeypatch.setattr(inference, "CHUNK_PIXELS", 8 * 16 * 16)
    watch = Watch(vae)
    peaks = []
    for count in (13, 101):
        latents = list(inference.encode_stream(vae, frames_of(count)))
        assert sum(map(len, latents)) == 1 + (count - 1) // 4
        assert sum(map(len, inference.decode_stream(vae, [torch.cat(latents)]))) == count
        peaks.append((watch.frames, watch.numel))
    assert peaks[0] == peaks[1]
    assert watch.frames <= 8


def test_a_cache_keeps_no_more_than_two_frames_a_layer(vae):
    cache = FeatureCache()
    for part in torch.randn(1, 21, 16, 16, 3).split([5, 8, 8], dim=1):
        vae.encode(part, cache)
    layers = [
        layer for layer in vae.modules() if isinstance(layer, CausalConv | TemporalConv) and cache.is_registered(layer)
    ]
    assert layers
    for layer in layers:
        kept = cache.recall(layer)
        assert kept.shape[1] <= 2
        assert kept.untyped_storage().nbytes() == kept.nbytes, "a view holds the chunk that it looks into"


def test_streams_give_what_the_whole_gives(vae, monkeypatch):
    clip = np.stack(list(frames_of(21)))
    full = inference.encode(vae, clip[None])[0]
    pictures = inference.decode(vae, full[None])[0]
    monkeypatch.setattr(inference, "CHUNK_PIXELS", 8 * 16 * 16)
    # in bfloat16, equal to its rounding
    streamed = torch.cat(list(inference.encode_stream(vae, frames_of(21))))
    torch.testing.assert_close(streamed, full, rtol=0.02, atol=0.02)
    torch.testing.assert_close(inference.encode(vae, clip[None])[0], streamed, rtol=0, atol=0)
    shown = np.concatenate(list(inference.decode_stream(vae, full.split(2))))
    assert np.abs(shown.astype(int) - pictures).max() <= 3
    assert shown.shape == clip.shape


def test_large_batches_are_encoded_in_groups(vae, monkeypatch):
    clips = np.stack([np.stack(list(frames_of(9))) for _ in range(5)])
    full = inference.encode(vae, clips)
    monkeypatch.setattr(inference, "CHUNK_PIXELS", 8 * 16 * 16)
    group_sizes = []
    vae.patch_in.register_forward_hook(lambda module, inputs, output: group_sizes.append(inputs[0].numel()))
    torch.testing.assert_close(inference.encode(vae, clips), full, rtol=0.02, atol=0.02)
    assert max(group_sizes) <= 8 * 16 * 16 * 3


def test_nothing_to_encode_gives_nothing(vae):
    assert list(inference.encode_stream(vae, [])) == []
