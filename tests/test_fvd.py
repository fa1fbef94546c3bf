"""The Fréchet video distance: published values, the formula against another form, and the extrapolation."""

import json
import subprocess
import sys

import numpy as np
import pytest
import scipy.linalg
import torch
import torch.nn.functional as F
from torch.utils.flop_counter import FlopCounterMode

from scaling.accounting.flops import I3D_FLOPS_PER_FRAME
from scaling.cli import fvd
from scaling.cli.main import main
from scaling.core.errors import UserError
from scaling.data.video import write_video
from scaling.metrics.fvd import frechet_distance, fvd_at_infinity
from scaling.metrics.i3d import BATCH_NORM_EPS, I3D, MIN_FRAMES, Unit, max_pool_same, same_padding


@pytest.fixture(scope="module")
def network():
    try:
        return I3D()
    except UserError as error:
        pytest.skip(str(error))


def test_published_distance_of_black_and_white_clips(network):
    """151.392 in TensorFlow (common_metrics_on_video_quality), on eight equal clips on each side; two give the same."""
    black = np.zeros((2, 30, 64, 64, 3), np.uint8)
    white = np.ones((2, 30, 64, 64, 3), np.float32)
    assert frechet_distance(network.features(black), network.features(white)) == pytest.approx(151.392, abs=0.01)


@pytest.mark.slow
def test_published_distance_of_noise(network):
    """10.13808 in TensorFlow and TorchScript (universome/fvd-comparison): 128 clips of noise each, not rescaled."""

    def features(seed: int) -> np.ndarray:
        random = np.random.RandomState(seed)
        rows = []
        for _ in range(64):
            clips = torch.from_numpy(random.rand(2, 16, 224, 224, 3).astype(np.float32))
            with torch.inference_mode():
                rows.append(network(clips.movedim(-1, 1)).numpy())
        return np.concatenate(rows)

    assert frechet_distance(features(2), features(1)) == pytest.approx(10.13808, abs=1e-3)


def test_the_distance_of_a_set_to_itself_is_never_negative():
    """Rounding gave -1e-13 for about half of these sets, which was printed as -0.00."""
    for seed in range(50):
        features = np.random.default_rng(seed).normal(size=(2 + seed % 6, 400)).astype(np.float32)
        distance = frechet_distance(features, features[::-1])
        assert 0 <= distance < 1e-9
        assert f"{distance:.2f}" == "0.00"


def test_the_flops_in_a_plan_are_those_of_the_network(network):
    with FlopCounterMode(display=False) as counter, torch.inference_mode():
        network(torch.zeros(1, 3, 16, 224, 224))
    assert pytest.approx(counter.get_total_flops(), rel=1e-3) == 16 * I3D_FLOPS_PER_FRAME


def test_the_features_of_a_clip_do_not_depend_on_other_clips(network):
    clips = np.random.default_rng(0).integers(0, 256, (3, 9, 20, 30, 3), dtype=np.uint8)
    together = network.features(clips)
    assert together.shape == (3, 400)
    assert together.dtype == np.float32
    np.testing.assert_allclose(network.features(clips[2:]), together[2:], atol=1e-4)
    np.testing.assert_allclose(network.features(clips[:1] / 255), together[:1], atol=1e-4)
    with pytest.raises(UserError, match="8 frames"):
        network.features(clips[:, :8])


@pytest.mark.parametrize(
    ("size", "kernel", "stride", "pads"),
    [(224, 7, 2, (2, 3)), (112, 3, 2, (0, 1)), (9, 3, 2, (1, 1)), (7, 2, 2, (0, 1))],
)
def test_same_padding_is_that_of_tensorflow(size, kernel, stride, pads):
    assert same_padding(size, kernel, stride) == pads
    assert (size + sum(pads) - kernel) // stride + 1 == -(-size // stride)


def test_max_pool_equals_torch():
    x = torch.randn(2, 3, 6, 7, 8).relu()
    torch.testing.assert_close(max_pool_same(x, (3, 3, 3), (1, 1, 1)), F.max_pool3d(x, 3, 1, padding=1))
    padded = F.pad(x, (0, 1, 1, 1, 0, 0), value=-torch.inf)
    torch.testing.assert_close(max_pool_same(x, (1, 3, 3), (1, 2, 2)), F.max_pool3d(padded, (1, 3, 3), (1, 2, 2)))


@pytest.mark.parametrize("kernel", [1, 3])
def test_folded_batch_norm_equals_batch_norm(kernel):
    norm = {name: torch.rand(5) + 0.3 for name in ("mean", "var", "bias")}
    weight = torch.randn(5, 4, kernel, kernel, kernel)
    x = torch.randn(2, 4, 6, 6, 6)
    unit = Unit({"a.weight": weight, **{f"a.{name}": tensor for name, tensor in norm.items()}}, "a")
    plain = F.batch_norm(
        F.conv3d(x, weight, padding=kernel // 2), norm["mean"], norm["var"], bias=norm["bias"], eps=BATCH_NORM_EPS
    )
    torch.testing.assert_close(unit(x), plain.relu(), atol=1e-4, rtol=1e-4)


def gaussian(rng: np.random.Generator, n: int, variances: np.ndarray, mean: float = 0.0) -> np.ndarray:
    return mean + rng.normal(size=(n, len(variances))) * np.sqrt(variances)


def test_distance_equals_the_matrix_root_form():
    rng = np.random.default_rng(0)
    real, fake = rng.normal(size=(60, 8)) @ rng.normal(size=(8, 8)), rng.normal(size=(60, 8)) + 1
    covariances = np.cov(real, rowvar=False), np.cov(fake, rowvar=False)
    root = scipy.linalg.sqrtm(covariances[0] @ covariances[1]).real
    expected = np.square(real.mean(0) - fake.mean(0)).sum() + np.trace(covariances[0] + covariances[1] - 2 * root)
    assert frechet_distance(real, fake) == pytest.approx(expected, rel=1e-9)
    # the same with fewer clips than features
    wide = [np.pad(features, ((0, 0), (0, 92))) for features in (real, fake)]
    assert frechet_distance(*wide) == pytest.approx(expected, rel=1e-9)


def test_distance_of_one_dimension_is_known():
    real, fake = np.array([[0.0], [2.0]]), np.array([[5.0], [11.0]])
    assert frechet_distance(real, fake) == pytest.approx((8 - 1) ** 2 + (np.sqrt(18) - np.sqrt(2)) ** 2)


@pytest.mark.parametrize("n", [20, 100])
def test_the_distance_is_zero_to_itself_and_invariant_to_rotation(n):
    rng = np.random.default_rng(1)
    real, fake = rng.normal(size=(2, n, 50)).astype(np.float32)
    fake = 2 * fake + 0.1
    assert frechet_distance(real, real) == pytest.approx(0, abs=1e-9)
    rotation = scipy.linalg.qr(rng.normal(size=(50, 50)))[0]
    rotated = frechet_distance(real @ rotation + 3, fake @ rotation + 3)
    assert rotated == pytest.approx(frechet_distance(real, fake), rel=1e-6)
    assert rotated == pytest.approx(frechet_distance(fake @ rotation, real @ rotation), rel=1e-6)


def test_unequal_numbers_of_clips_and_too_few_clips_are_refused():
    features = np.random.default_rng(0).normal(size=(10, 4))
    with pytest.raises(UserError, match="take 9 of each"):
        frechet_distance(features, features[:9])
    with pytest.raises(UserError, match="at least 2"):
        frechet_distance(features[:1], features[:1])
    with pytest.raises(UserError, match="at least 4"):
        fvd_at_infinity(features[:3], features[:3], seed=0)


def test_extrapolation_recovers_the_true_distance():
    """Ten samples of two Gaussians of 100 dimensions, of known distance. At 96 clips the plain value is far off."""
    real_variances = 100 * np.arange(1, 101.0) ** -2
    fake_variances = 1.3 * real_variances
    true = 100 * 0.5**2 + np.square(np.sqrt(real_variances) - np.sqrt(fake_variances)).sum()
    covered, plain, extrapolated = 0, [], []
    for seed in range(10):
        rng = np.random.default_rng(seed)
        real, fake = gaussian(rng, 96, real_variances), gaussian(rng, 96, fake_variances, 0.5)
        value, low, high = fvd_at_infinity(real, fake, seed)
        covered += low <= true <= high
        plain.append(frechet_distance(real, fake))
        extrapolated.append(value)
    assert covered >= 8
    assert abs(np.mean(extrapolated) - true) < 0.5 * (np.mean(plain) - true)
    assert fvd_at_infinity(real, fake, 9) == (value, low, high)


def test_the_distance_needs_no_torch():
    subprocess.run(
        [sys.executable, "-c", "import sys, scaling.metrics.fvd; assert 'torch' not in sys.modules"], check=True
    )


@pytest.fixture
def folders(tmp_path):
    """Three real videos of 24 frames and two fake ones, of noise."""
    for side, count in (("real", 3), ("fake", 2)):
        for i in range(count):
            frames = np.random.default_rng([count, i]).integers(0, 256, (24, 32, 48, 3), dtype=np.uint8)
            (tmp_path / side).mkdir(exist_ok=True)
            write_video(tmp_path / side / f"{i}.mp4", frames, 8)
    return tmp_path


def test_command_compares_equal_numbers(network, folders, capsys):
    assert main(["fvd", str(folders / "real"), str(folders / "fake"), "--frames", "10", "--json"]) == 0
    out, err = capsys.readouterr()
    result = json.loads(out)
    assert result["extractor"] == "i3d_k400"
    assert (result["clips"], result["frames"]) == (4, 10)
    assert result["size"] == {"real": "48x32", "fake": "48x32"}
    assert result["at_infinity"]["low"] < result["at_infinity"]["high"]
    assert "6 real and 4 fake clips: 4 of each are compared" in err

    assert main(["fvd", str(folders / "fake"), str(folders / "fake"), "--clips", "2"]) == 0
    output = capsys.readouterr().out
    assert "FVD 0.00" in output
    assert "2 clips on each side, 16 frames" in output


def test_the_command_asks_for_as_many_frames_as_the_extractor_needs():
    assert fvd.FEWEST_FRAMES == MIN_FRAMES


def test_command_says_what_the_user_has_to_change(folders, capsys):
    real, fake = str(folders / "real"), str(folders / "fake")
    for arguments, message in [
        ([real, fake, "--frames", "8"], 'Invalid value "8" for --frames. Must be >= 9'),
        ([real, fake, "--frames", "30"], "the longest has 24; lower --frames"),
        ([real, fake, "--clips", "3"], f"{fake}: has 2 clips of 16 frames, --clips asks for 3"),
        ([real, str(folders / "absent")], "absent: no such folder"),
    ]:
        assert main(["fvd", *arguments]) == 2
        assert message in capsys.readouterr().err
