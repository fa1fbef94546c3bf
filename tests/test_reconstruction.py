"""What is measured of a VAE: the fidelity of decoded clips, and their Fréchet distance to the original clips."""

import os

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file

from scaling.core.errors import UserError
from scaling.core.records import read_record
from scaling.core.stage_folder import StageFolder
from scaling.metrics.fidelity import Fidelity
from scaling.stages import reconstruction
from scaling.stages.run import run_stage
from sweeps.load import load_sweep
from tests.sweep_stages import shared_stages


@pytest.fixture(scope="module")
def stages(tmp_path_factory):
    """The folder of runs with the common stages of the sweep `tiny` without the latents, and those stages."""
    runs = tmp_path_factory.mktemp("runs")
    sweep = load_sweep("tiny")
    short = sweep.vae_train.replace(steps=2)
    common = shared_stages(sweep.replace(vae_train=short))
    threads = os.environ.get("OMP_NUM_THREADS", "1")
    try:
        for stage in (common.data, common.vae, common.reference, common.reconstruction):
            run_stage(str(StageFolder.create(runs, stage).path))
    except UserError as error:
        pytest.skip(str(error))
    finally:
        os.environ["OMP_NUM_THREADS"] = threads  # which a stage changes
    return runs, common


def test_the_record_of_a_vae_holds_its_fidelity(stages):
    runs, common = stages
    record = read_record(runs / common.vae.id / "record.json")
    metrics = {metric.name: metric for metric in record.metrics}
    assert metrics.keys() == {"psnr", "ssim", "lpips"}
    assert metrics["lpips"].extractor == "lpips_alex"
    for metric in metrics.values():
        assert metric.n == 16
        assert metric.standard_error > 0
        assert metric.settings["frames"] in (8, "all")


def test_decoded_clips_are_compared_with_their_originals(stages):
    runs, common = stages
    record = read_record(runs / common.reconstruction.id / "record.json")
    plain, infinite = record.metrics
    assert (plain.name, infinite.name) == ("rfvd", "rfvd_infinity")
    assert (plain.n, plain.extractor, plain.settings) == (4, "i3d_k400", {"frames": 16, "seed": 0})
    assert infinite.settings["low"] < infinite.value < infinite.settings["high"]
    assert plain.value > 10  # of a VAE of two updates
    assert (record.vae_id, record.data_id) == (common.vae.id, common.data.id)
    real, decoded = (
        load_file(runs / stage.id / "features.safetensors")["features"]
        for stage in (common.reference, common.reconstruction)
    )
    assert real.shape == decoded.shape == (4, 400)


def test_a_perfect_vae_is_at_distance_zero(stages, tmp_path, monkeypatch):
    runs, common = stages
    monkeypatch.setattr(reconstruction, "encode", lambda vae, clips: clips)
    monkeypatch.setattr(reconstruction, "decode", lambda vae, latents: latents)
    for stage in (common.data, common.vae, common.reference):
        (tmp_path / stage.id).symlink_to(runs / stage.id)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")  # which a stage sets
    folder = StageFolder.create(tmp_path, common.reconstruction)
    run_stage(str(folder.path))
    assert abs(read_record(folder.record_path).value("rfvd")) < 1e-3


@pytest.fixture
def fidelity():
    try:
        return Fidelity(torch.device("cpu"))
    except UserError as error:
        pytest.skip(str(error))


def clip(frames=9, height=32, width=48):
    """A gray ramp with a moving square."""
    pixels = np.broadcast_to(np.linspace(0, 255, width)[None, None, :, None], (frames, height, width, 3)).copy()
    for number, frame in enumerate(pixels):
        frame[4:12, 2 * number : 2 * number + 8] = (255, 0, 0)
    return pixels.astype(np.uint8)


def test_fidelity_of_equal_clips(fidelity):
    fidelity.add(clip(), clip())
    assert {metric.name: metric.value for metric in fidelity.metrics()} == {
        "psnr": pytest.approx(10 * np.log10(255**2 / 1e-10)),
        "ssim": pytest.approx(1),
        "lpips": 0,
    }
    assert all(metric.standard_error is None and metric.n == 1 for metric in fidelity.metrics())


def test_fidelity_falls_with_noise(fidelity):
    """PSNR follows from the noise; SSIM falls and LPIPS rises with it. Both clips have the same weight."""
    values = []
    for sigma in (2, 20):
        fidelity.values = {name: [] for name in fidelity.values}
        for frames in (1, 17):
            original = np.full((frames, 64, 64, 3), 128, dtype=np.uint8)
            noise = np.random.default_rng(0).normal(0, sigma, original.shape).round()
            fidelity.add((original + noise).astype(np.uint8), original)
        values.append({metric.name: metric.value for metric in fidelity.metrics()})
    for sigma, measured in zip((2, 20), values, strict=True):
        assert measured["psnr"] == pytest.approx(20 * np.log10(255 / np.sqrt(sigma**2 + 1 / 12)), abs=0.1)
    assert values[0]["ssim"] > values[1]["ssim"]
    assert values[0]["lpips"] < values[1]["lpips"]


def test_ssim_of_flat_pictures_is_known(fidelity):
    """For flat pictures SSIM is its luminance term: (2 ab + c) / (a^2 + b^2 + c), c = 0.01^2."""
    dark, light = (np.full((1, 32, 32, 3), value, dtype=np.uint8) for value in (51, 102))
    fidelity.add(dark, light)
    value = {metric.name: metric.value for metric in fidelity.metrics()}["ssim"]
    assert value == pytest.approx((2 * 0.2 * 0.4 + 1e-4) / (0.2**2 + 0.4**2 + 1e-4), abs=1e-4)


def test_a_clip_that_is_too_small_for_a_network_is_skipped(fidelity):
    fidelity.add(clip(height=16), clip(height=16))
    assert [metric.name for metric in fidelity.metrics()] == ["psnr", "ssim"]
