"""Counted twice: the closed forms against the model's own parameters and torch's FLOP counter."""

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from scaling import flops
from scaling.models.dit import DiT
from scaling.models.vae import VAE
from scaling.presets import DIT_LADDER, VAE_PRESETS

CHANNELS, WORDS = 8, 12
UNIFORM = [(5, 4, 4)] * 3
MIXED = [(5, 4, 4), (5, 4, 4), (1, 3, 5), (3, 2, 6)]


@pytest.mark.parametrize("name", list(DIT_LADDER))
def test_dit_parameters(name):
    with torch.device("meta"):
        counted = DiT(DIT_LADDER[name], CHANNELS, flops.TEXT_DIM).count_params()
    assert flops.dit_params(DIT_LADDER[name], CHANNELS) == counted


@pytest.mark.parametrize("grids", [UNIFORM, MIXED], ids=["uniform", "mixed"])
@pytest.mark.parametrize("name", list(DIT_LADDER)[:6])
def test_dit_flops(name, grids):
    spec = DIT_LADDER[name]
    model = DiT(spec, CHANNELS, flops.TEXT_DIM)
    tokens = sum(t * h * w for t, h, w in grids)
    patches = torch.randn(tokens, CHANNELS * spec.patch**2)
    text = torch.randn(len(grids), WORDS, flops.TEXT_DIM)
    mask = torch.ones(len(grids), WORDS, dtype=torch.bool)
    arguments = (patches, grids, torch.rand(len(grids)), text, mask, torch.randn(len(grids), flops.TEXT_DIM))

    with FlopCounterMode(display=False) as forward:
        output = model(*arguments)
    expected = flops.dit_forward(spec, CHANNELS, grids, WORDS)
    assert forward.get_total_flops() == pytest.approx(expected, rel=1e-9)

    with FlopCounterMode(display=False) as backward:
        output.square().sum().backward()
    measured = forward.get_total_flops() + backward.get_total_flops()
    assert measured == pytest.approx(flops.dit_training(spec, CHANNELS, grids, WORDS), rel=1e-9)


@pytest.mark.parametrize("name", list(VAE_PRESETS))
@pytest.mark.parametrize("frames", [1, 9])
def test_vae_flops(name, frames):
    spec = VAE_PRESETS[name]
    device = "meta" if name == "base" else "cpu"
    with torch.device(device):
        vae = VAE(spec)
        side = 4 * spec.spatial_stride
        pixels = torch.randn(1, frames, side, side, 3)
    with FlopCounterMode(display=False) as encoding:
        mean, _ = vae.encode(pixels)
    assert encoding.get_total_flops() == pytest.approx(flops.vae_encode(spec, frames, side, side), rel=1e-9)
    with FlopCounterMode(display=False) as decoding:
        restored = vae.decode(mean)
    assert decoding.get_total_flops() == pytest.approx(flops.vae_decode(spec, frames, side, side), rel=1e-9)
    with FlopCounterMode(display=False) as backward:
        restored.square().sum().backward()
    measured = sum(counter.get_total_flops() for counter in (encoding, decoding, backward))
    # mean is half of the posterior's output, so the other half has no gradient here
    assert measured == pytest.approx(flops.vae_training(spec, frames, side, side), rel=0.01)
