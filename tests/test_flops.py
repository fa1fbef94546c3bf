"""Counted twice: the closed forms against the model's own parameters and torch's FLOP counter.

On the meta device nothing is computed, so the largest models are counted as quickly as the smallest.
"""

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from scaling import flops
from scaling.geometry import TEXT_DIM
from scaling.models.dit import DiT
from scaling.models.vae import VAE
from scaling.presets import DIT_LADDER, VAE_PRESETS

CHANNELS, WORDS = 8, 12
UNIFORM = [(5, 4, 4)] * 3
MIXED = [(5, 4, 4), (5, 4, 4), (1, 3, 5), (3, 2, 6)]


@pytest.mark.parametrize("name", list(DIT_LADDER))
def test_dit_parameters(name):
    with torch.device("meta"):
        counted = DiT(DIT_LADDER[name], CHANNELS, TEXT_DIM).count_params()
    assert flops.dit_params(DIT_LADDER[name], CHANNELS) == counted


@pytest.mark.parametrize("grids", [UNIFORM, MIXED], ids=["uniform", "mixed"])
@pytest.mark.parametrize(("name", "device"), [*((name, "meta") for name in DIT_LADDER), ("w32d2", "cpu")])
def test_dit_flops(name, device, grids):
    spec, clips = DIT_LADDER[name], len(grids)
    tokens = sum(t * h * w for t, h, w in grids)
    with torch.device(device):
        model = DiT(spec, CHANNELS, TEXT_DIM)
        patches = torch.randn(tokens, CHANNELS * spec.patch**2)
        text, mask = torch.randn(clips, WORDS, TEXT_DIM), torch.ones(clips, WORDS, dtype=torch.bool)
        arguments = (patches, grids, torch.rand(clips), text, mask, torch.randn(clips, TEXT_DIM))

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
    side = 4 * spec.spatial_stride
    with torch.device("meta"):
        vae = VAE(spec)
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
    assert measured == pytest.approx(flops.vae_training(spec, frames, side, side), rel=1e-9)
