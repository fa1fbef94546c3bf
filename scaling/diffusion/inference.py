"""Inference: loads the trained models of complete stages, and encodes and decodes clips with the VAE. Sampling is in
`scaling.diffusion.sampling`; nothing here trains."""

from collections.abc import Iterable, Iterator
from itertools import islice

import numpy as np
import torch
from safetensors.torch import load_file

from scaling.core.stage_fields import DiTFields, VAEFields
from scaling.core.stage_folder import StageFolder
from scaling.diffusion.latents import LatentSet
from scaling.distributed.precision import autocast
from scaling.models.causal import FeatureCache
from scaling.models.dit import DiT
from scaling.models.vae import VAE, to_float, to_uint8

CHUNK_PIXELS = 2**22
"""The largest number of pixels, over frames and clips, that go through the VAE at once; but four frames always do. Four
frames of 720p fit, or eight of 480p; the largest activation of `base`, in its decoder, is then 1.6 GB in bfloat16."""


def device() -> torch.device:
    """Where models live: the first GPU that this process sees, or the CPU."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def load_vae(folder: StageFolder) -> VAE:
    """The averaged weights of a `vae` stage whose training is done, in evaluation mode."""
    fields = folder.stage().fields_as(VAEFields)
    vae = VAE(fields.vae)
    vae.load_state_dict(load_file(folder.path / "model.safetensors"))
    return vae.to(device()).eval()


def load_dit(folder: StageFolder, data: LatentSet) -> DiT:
    """The averaged weights of a `dit` stage whose training is done, in evaluation mode."""
    fields = folder.stage().fields_as(DiTFields)
    model = DiT(fields.dit, data.channels, data.text_dim)
    model.load_state_dict(load_file(folder.path / "model.safetensors"))
    return model.to(device()).eval()


def encode(vae: VAE, clips: np.ndarray) -> torch.Tensor:
    """Clips, uint8 (b, t, h, w, 3), to posterior means (b, t, h, w, c), float32 on the CPU. Large clips go through the
    VAE in chunks.

    Raises ValueError if a size is not divisible as `VAE.encode` requires.
    """
    _, t, h, w, _ = clips.shape
    stride, chunk_latents = vae.spec.temporal_stride, _latents_at_once(vae, h, w)
    encoded = []
    for group in np.split(clips, range(chunk_latents, len(clips), chunk_latents)):
        latents, cache = max(1, chunk_latents // len(group)), FeatureCache()
        starts = range(1 + stride * (latents - 1), t, stride * latents)
        encoded.append(torch.cat([_encode(vae, chunk, cache) for chunk in np.split(group, starts, axis=1)], dim=1))
    return torch.cat(encoded)


def decode(vae: VAE, latents: torch.Tensor) -> np.ndarray:
    """Latents (b, t, h, w, c) to clips, uint8 (b, t, h, w, 3). Clips are decoded one at a time, so a picture never
    depends on its batch; large clips go through the VAE in chunks."""
    return np.stack([np.concatenate(list(decode_stream(vae, [latent]))) for latent in latents])


def encode_stream(vae: VAE, frames: Iterable[np.ndarray]) -> Iterator[torch.Tensor]:
    """The frames of one video, each uint8 (h, w, 3), to its posterior means in parts (t, h, w, c), float32 on the CPU.

    However long the video is, only one chunk of it is in memory. The concatenated parts equal what `encode` returns for
    the whole video. Raises ValueError where `encode` would; for a number of frames other than 1 + 4k, at the end.
    """
    source, cache, stride = iter(frames), FeatureCache(), vae.spec.temporal_stride
    chunk = list(islice(source, 1))
    if not chunk:
        return
    latents = _latents_at_once(vae, *chunk[0].shape[:2])
    chunk += islice(source, stride * (latents - 1))
    while chunk:
        yield _encode(vae, np.stack(chunk)[None], cache)[0]
        chunk = list(islice(source, stride * latents))


def decode_stream(vae: VAE, parts: Iterable[torch.Tensor]) -> Iterator[np.ndarray]:
    """The latents of one video in parts (t, h, w, c) of any lengths to its frames in parts, uint8 (t, h, w, 3).

    However long the video is, only one chunk of it is in memory. The concatenated frames equal what `decode` returns
    for the whole video.
    """
    cache, stride = FeatureCache(), vae.spec.spatial_stride
    for part in parts:
        _, h, w, _ = part.shape
        for chunk in torch.split(part, _latents_at_once(vae, h * stride, w * stride)):
            yield _decode(vae, chunk[None], cache)[0]


def _latents_at_once(vae: VAE, height: int, width: int) -> int:
    """The number of latent frames in a chunk. The height and the width are in pixels."""
    return max(1, CHUNK_PIXELS // (vae.spec.temporal_stride * height * width))


@torch.no_grad()
def _encode(vae: VAE, chunk: np.ndarray, cache: FeatureCache) -> torch.Tensor:
    with autocast():
        mean, _ = vae.encode(to_float(torch.from_numpy(chunk).to(device())), cache)
    return mean.float().cpu()


@torch.no_grad()
def _decode(vae: VAE, chunk: torch.Tensor, cache: FeatureCache) -> np.ndarray:
    with autocast():
        pixels: np.ndarray = to_uint8(vae.decode(chunk.to(device()), cache)).cpu().numpy()
    return pixels
