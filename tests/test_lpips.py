"""LPIPS: the published values of both backbones, and what its use as a loss needs."""

from functools import cache

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from scaling.core.errors import UserError
from scaling.metrics import lpips
from scaling.metrics.lpips import LPIPS, SMALLEST

# The authors' package `lpips`, net="vgg", on the images of the test, printed to four digits by a user; torchmetrics
# prints the same mean.
PUBLISHED_VGG = [0.3497, 0.3494, 0.3473, 0.3558, 0.3437, 0.3366, 0.3716, 0.3516, 0.3472, 0.3413]
# Black against white, 64x64, net="alex", as the README of common_metrics_on_video_quality has it. It averages the
# distance's map at the images' size (spatial=True), on a GPU: in fp32 that is 0.81404, the mean of the maps 0.81395.
PUBLISHED_ALEX = 0.8140146732330322


@cache
def load(backbone):
    try:
        return LPIPS(backbone)
    except UserError as error:
        pytest.skip(str(error))


@pytest.fixture(params=["alex", "vgg"])
def metric(request):
    return load(request.param)


def images(*shape):
    return torch.rand(*shape, 3, generator=torch.Generator().manual_seed(0)) * 2 - 1


def smooth_image(side=64):
    """(side, side, 3): a colored wave, which a blur changes little."""
    y, x = torch.meshgrid(torch.linspace(0, 9, side), torch.linspace(0, 7, side), indexing="ij")
    return torch.stack([torch.sin(x + y), torch.cos(x), torch.sin(2 * y)], dim=-1) * 0.8


def test_the_published_distances_on_vgg():
    random = np.random.RandomState(123)
    pair = [torch.tensor(random.rand(10, 3, 100, 100), dtype=torch.float32) * 2 - 1 for _ in range(2)]
    distances = load("vgg")(*(side.movedim(1, -1) for side in pair))
    np.testing.assert_allclose(distances, PUBLISHED_VGG, rtol=0, atol=6e-5)


def test_the_published_distance_on_alex():
    white = torch.ones(1, 64, 64, 3)
    assert load("alex")(-white, white).item() == pytest.approx(PUBLISHED_ALEX, abs=1e-4)


def test_equal_images_are_at_distance_zero(metric):
    image = images(2, 3, 40, 48)
    assert torch.equal(metric(image, image), torch.zeros(2, 3))


def test_a_blur_is_closer_than_noise_of_the_same_energy(metric):
    image = smooth_image()[None]
    blurred = F.avg_pool2d(image.movedim(-1, 1), 5, stride=1, padding=2, count_include_pad=False).movedim(1, -1)
    energy = (blurred - image).square().mean().sqrt()
    noisy = image + energy * torch.randn(image.shape, generator=torch.Generator().manual_seed(1))
    assert 0 < metric(blurred, image).item() < 0.5 * metric(noisy, image).item()


def test_a_step_down_the_gradient_lowers_the_distance(metric):
    reference = smooth_image(32)[None]
    image = (reference + 0.2 * images(1, 32, 32)).requires_grad_()
    distance = metric(image, reference).sum()
    (gradient,) = torch.autograd.grad(distance, image)
    assert metric((image - 1e-2 * gradient / gradient.norm()).detach(), reference).item() < distance.item()


def test_the_gradient_is_finite_where_features_vanish(metric):
    image = torch.full((1, 32, 32, 3), -1.0, requires_grad=True)
    (gradient,) = torch.autograd.grad(metric(image, smooth_image(32)[None]).sum(), image)
    assert torch.isfinite(gradient).all()


def test_nothing_in_it_is_trained_or_saved(metric):
    assert list(metric.parameters()) == []
    assert metric.state_dict() == {}


def test_images_are_compared_in_chunks(metric, monkeypatch):
    pair = images(2, 2, 3, 32, 40)
    at_once = metric(*pair)
    monkeypatch.setattr(lpips, "CHUNK_PIXELS", 2 * 32 * 40)
    chunk_sizes, chunk = [], metric._chunk
    monkeypatch.setattr(metric, "_chunk", lambda *sides: chunk_sizes.append(len(sides[0])) or chunk(*sides))
    torch.testing.assert_close(metric(*pair), at_once, rtol=1e-4, atol=1e-6)
    assert chunk_sizes == [2, 2, 2]


def test_the_smallest_image(metric):
    side = SMALLEST[metric.backbone]
    assert metric(*images(2, 1, side, side)).shape == (1,)
    with pytest.raises(UserError, match=f"{side - 1}x{side} are too small"):
        metric(*images(2, 1, side, side - 1))


def test_autocast_changes_little(metric):
    pair = images(2, 2, 64, 64)
    with torch.autocast("cpu", torch.bfloat16):
        rough = metric(*pair)
    assert rough.dtype == torch.float32
    torch.testing.assert_close(rough, metric(*pair), rtol=0.05, atol=0)
