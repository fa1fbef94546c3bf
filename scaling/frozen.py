"""Trained models of complete stages, for use: load them, encode and decode clips. Nothing here trains."""

import numpy as np
import torch
from safetensors.torch import load_file

from scaling.latents import LatentSet
from scaling.models.dit import DiT
from scaling.models.vae import VAE, to_float, to_uint8
from scaling.stage import DiTFields, StageFolder, VAEFields


def device() -> torch.device:
    """Where models live: the first GPU that this process sees, or the CPU."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def load_vae(folder: StageFolder) -> VAE:
    """The averaged weights of a `vae` stage whose training is done, in evaluation mode."""
    fields: VAEFields = folder.stage().parsed()
    vae = VAE(fields.vae)
    vae.load_state_dict(load_file(folder.path / "model.safetensors"))
    return vae.to(device()).eval()


def load_dit(folder: StageFolder, data: LatentSet) -> DiT:
    """The averaged weights of a `dit` stage whose training is done, in evaluation mode."""
    fields: DiTFields = folder.stage().parsed()
    model = DiT(fields.dit, data.channels, data.text_dim)
    model.load_state_dict(load_file(folder.path / "model.safetensors"))
    return model.to(device()).eval()


@torch.no_grad()
def encode(vae: VAE, clips: np.ndarray) -> torch.Tensor:
    """uint8 (b, t, h, w, 3) -> posterior means (b, t, h, w, c), float32 on the CPU."""
    with torch.autocast(device().type, torch.bfloat16):
        mean, _ = vae.encode(to_float(torch.from_numpy(clips).to(device())))
    return mean.float().cpu()


@torch.no_grad()
def decode(vae: VAE, latents: torch.Tensor) -> np.ndarray:
    """Latents (b, t, h, w, c) -> uint8 (b, t, h, w, 3), a clip at a time: a picture never depends on its batch."""
    decoded = []
    with torch.autocast(device().type, torch.bfloat16):
        for latent in latents:
            decoded.append(to_uint8(vae.decode(latent[None].to(device()))).cpu().numpy())
    return np.concatenate(decoded)
