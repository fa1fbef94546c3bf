"""Encoding and decoding of a clip by our `base` VAE and by diffusers' AutoencoderKLWan, which has the same pyramid.

Wan's takes a clip one latent at a time, always. Ours takes it whole where it fits, as `scaling.diffusion.inference`
does; a second contender of ours goes one latent at a time too, for equal memory.
"""

from collections.abc import Callable
from functools import partial
from typing import Literal

import torch
from torch import Tensor

from benchmarks.measure import Build, Contender
from benchmarks.peers import OURS, count_params, settle
from benchmarks.precision import Precision, precise
from benchmarks.shapes import VideoShape
from scaling.accounting.geometry import latent_size
from scaling.accounting.presets import VAE_PRESETS
from scaling.models.causal import FeatureCache
from scaling.models.vae import VAE

SPEC = VAE_PRESETS["base"]
Direction = Literal["encode", "decode"]
CHUNKED = f"{OURS}, one latent at a time"


def ours(
    direction: Direction, shape: VideoShape, device: torch.device, *, chunked: bool
) -> tuple[VAE, Callable[[], object]]:
    """Our VAE and one pass of a clip."""
    model = VAE(SPEC).to(device).eval()
    pixels, latents = _inputs(shape, device)
    stride = SPEC.temporal_stride
    clip = pixels if direction == "encode" else latents
    starts = list(range(1, clip.shape[1], stride if direction == "encode" else 1)) if chunked else []
    chunks = clip.tensor_split(starts, dim=1)

    def run_pass() -> list[object]:
        cache, function = FeatureCache(), model.encode if direction == "encode" else model.decode
        return [function(chunk, cache) for chunk in chunks]

    return model, run_pass


def wan(direction: Direction, shape: VideoShape, device: torch.device) -> tuple[torch.nn.Module, Callable[[], object]]:
    """Wan 2.1's VAE (arXiv 2503.20314) and one pass of a clip."""
    from diffusers import AutoencoderKLWan

    model = AutoencoderKLWan().to(device).eval()
    pixels, latents = (tensor.movedim(-1, 1).contiguous() for tensor in _inputs(shape, device))
    if direction == "encode":
        return model, lambda: model.encode(pixels, return_dict=False)
    return model, lambda: model.decode(latents, return_dict=False)


def passing(
    direction: Direction, shape: VideoShape, precision: Precision, name: str, device: torch.device
) -> Contender:
    """A clip through one half of a VAE."""
    model, run_pass = (
        wan(direction, shape, device) if name == "wan" else ours(direction, shape, device, chunked=name == CHUNKED)
    )
    settle(model)

    @torch.no_grad()
    def step() -> object:
        with precise(device, precision):
            return run_pass()

    return Contender(name, step, count_params(model), shape.pixels)


def contenders(direction: Direction, shape: VideoShape, precision: Precision) -> dict[str, Build]:
    """Ours first; an image is one latent anyhow."""
    names = [OURS, "wan"] if shape.frames == 1 else [OURS, CHUNKED, "wan"]
    return {name: partial(passing, direction, shape, precision, name) for name in names}


def _inputs(shape: VideoShape, device: torch.device) -> tuple[Tensor, Tensor]:
    """Pixels (1, t, h, w, 3) and latents (1, t, h, w, c)."""
    pixels = torch.rand(1, shape.frames, shape.height, shape.width, 3, device=device) * 2 - 1
    size = latent_size(shape.frames, shape.height, shape.width, SPEC)
    return pixels, torch.randn(1, *size, SPEC.latent_channels, device=device)
