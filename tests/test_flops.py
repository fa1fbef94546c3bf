"""Counted twice: the closed forms against the model's own parameters and torch's FLOP counter.

On the meta device nothing is computed, so the largest models are counted as quickly as the smallest.
"""

import re
from collections import Counter

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from scaling.accounting import flops
from scaling.accounting.dit_layers import dit_layers
from scaling.accounting.geometry import TEXT_DIM
from scaling.accounting.presets import PAPER_DITS, VAE_PRESETS, family
from scaling.accounting.vae_layers import decoder_layers, encoder_layers
from scaling.core.specs import EvalSpec, VAESpec, VAEStage
from scaling.diffusion.sampling import Sampler, sample
from scaling.models.dit import DiT
from scaling.models.vae import VAE
from scaling.text.encoded_captions import EncodedCaptions

CHANNELS, WORDS = 8, 12
DITS = {f"w{dit.width}d{dit.depth}": dit for dit in family()[::4]} | PAPER_DITS
DITS["per_block"] = PAPER_DITS["S"].replace(modulation="per_block")
ODD = tuple(VAEStage(width=w, down=down) for w, down in ((6, "time"), (10, "space"), (14, "both"), (9, "none")))
VAES = VAE_PRESETS | {  # every kind of level and no two widths alike, in both kinds of convolution
    "odd": VAESpec(patch=1, stages=ODD, convolution="full"),
    "odd factorised": VAESpec(patch=1, stages=ODD, blocks=2),
}
UNIFORM = [(5, 4, 4)] * 3
MIXED = [(5, 4, 4), (5, 4, 4), (1, 3, 5), (3, 2, 6)]


@pytest.mark.parametrize("name", list(DITS))
def test_dit_parameters(name):
    with torch.device("meta"):
        counted = DiT(DITS[name], CHANNELS, TEXT_DIM).count_params()
    assert flops.dit_params(DITS[name], CHANNELS) == counted


def test_every_member_of_the_family_is_counted():
    for dit in family():
        with torch.device("meta"):
            counted = DiT(dit, CHANNELS, TEXT_DIM).count_params()
        assert flops.dit_params(dit, CHANNELS) == counted


@pytest.mark.parametrize("name", list(DITS))
def test_dit_layers_are_those_of_the_model(name):
    """By name: a layer's weights, biases and gains are the parameters of the module's layer of that name."""
    with torch.device("meta"):
        model = DiT(DITS[name], CHANNELS, TEXT_DIM)
    layers = list(dit_layers(DITS[name], CHANNELS, UNIFORM, WORDS))
    assert params_by_layer(layers) == params_by_name(model, r"(?<=^blocks\.)\d+", "*")
    assert sum(layer.multiply_adds for layer in layers) * 2 == flops.dit_forward(DITS[name], CHANNELS, UNIFORM, WORDS)


@pytest.mark.parametrize("spec", VAES.values(), ids=list(VAES))
def test_vae_layers_are_those_of_the_model(spec):
    with torch.device("meta"):
        vae = VAE(spec)
    layers = [*encoder_layers(spec, (1, 1, 1)), *decoder_layers(spec, (1, 1, 1))]
    assert params_by_layer(layers) == params_by_name(vae)


def params_by_layer(layers):
    assert len({layer.name for layer in layers}) == len(layers)
    return {layer.name: layer.params for layer in layers if layer.params}


def params_by_name(model, pattern="$^", replacement=""):
    counts = Counter()
    for name, parameter in model.named_parameters():
        layer = re.sub(r"\.(weight|bias)$", "", name)
        counts[re.sub(pattern, replacement, layer)] += parameter.numel()
    return dict(counts)


@pytest.mark.parametrize("grids", [UNIFORM, MIXED], ids=["uniform", "mixed"])
@pytest.mark.parametrize(("name", "device"), [*((name, "meta") for name in DITS), ("w32d2", "cpu")])
def test_dit_flops(name, device, grids):
    spec, clips = DITS[name], len(grids)
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


@pytest.mark.parametrize("spec", VAES.values(), ids=list(VAES))
def test_vae_parameters(spec):
    with torch.device("meta"):
        vae = VAE(spec)
    assert flops.vae_params(spec) == sum(parameter.numel() for parameter in vae.parameters())


@pytest.mark.parametrize("spec", VAES.values(), ids=list(VAES))
@pytest.mark.parametrize("frames", [1, 9])
def test_vae_flops(spec, frames):
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


def test_the_published_dit_is_counted_as_published():
    """DiT-XL/2 at 256 pixels: 675M parameters and "119 Gflops" (arXiv 2212.09748, table 4), which are multiply-adds."""
    assert flops.class_dit_params(1152, 28) / 1e6 == pytest.approx(675, abs=0.5)
    assert flops.class_dit_forward(1152, 28) / 2 / 1e9 == pytest.approx(118.6, abs=0.05)


@pytest.mark.parametrize(
    ("solver", "guidance", "interval"),
    [("euler", 2.0, (0.0, 1.0)), ("heun", 2.0, (0.0, 1.0)), ("multistep", 1.0, (0.0, 1.0)), ("euler", 2.0, (0.2, 0.7))],
)
def test_forwards_are_those_that_sampling_makes(solver, guidance, interval):
    evaluation = EvalSpec(solver=solver, sample_steps=5, guidance=guidance, guidance_interval=interval)
    model = DiT(DITS["w32d2"], CHANNELS, TEXT_DIM)
    clips = []
    model.register_forward_pre_hook(lambda _, inputs: clips.append(len(inputs[1])))
    caption = EncodedCaptions(torch.zeros(1, 4, TEXT_DIM), torch.ones(1, 4, dtype=torch.bool), torch.zeros(1, TEXT_DIM))
    sample(model, caption, (2, 4, 4), [(0,)], Sampler.from_spec(evaluation))
    least, most = flops.sampling_forwards(evaluation)
    assert least <= sum(clips) <= most
    assert least == most or interval != (0.0, 1.0)
