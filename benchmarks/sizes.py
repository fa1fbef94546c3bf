"""The named sizes, with parameters and FLOPs in closed form, as the tables of docs/models.md.

python -m benchmarks.sizes
"""

from scaling.accounting import flops
from scaling.accounting.geometry import Grid
from scaling.accounting.presets import PAPER_DITS, VAE_PRESETS, dit_preset
from scaling.core.specs import DiTSpec, VAESpec

DIAL = ("100k", "1M", "10M", "100M", "1B", "10B")
CHANNELS = 16
GRID: Grid = (5, 16, 16)
"""Tokens of 17 frames of 256x256 pixels behind a VAE of 4x8x8."""
TEXT_TOKENS = 32
CLIP = (17, 128, 128)
"""Frames, height and width that the VAEs are priced at."""


def dit_row(name: str, dit: DiTSpec) -> str:
    """Width, depth, N, all parameters and FLOPs of one."""
    groups = flops.dit_params(dit, CHANNELS)
    forward = flops.dit_forward(dit, CHANNELS, [GRID], TEXT_TOKENS)
    step = flops.dit_training(dit, CHANNELS, [GRID], TEXT_TOKENS)
    n_params, total = flops.non_embedding(groups), sum(groups.values())
    return (
        f"| {name} | {dit.width} | {dit.depth} | {dit.heads} x {dit.head_dim} | {n_params / 1e6:.4g}M "
        f"| {total / 1e6:.4g}M | {forward / 1e9:.4g} | {step / 1e9:.4g} |"
    )


def vae_row(name: str, vae: VAESpec) -> str:
    """Compression, channels, parameters and FLOPs of one."""
    stride = f"{vae.temporal_stride}x{vae.spatial_stride}x{vae.spatial_stride}"
    encode, decode = flops.vae_encode(vae, *CLIP), flops.vae_decode(vae, *CLIP)
    return (
        f"| {name} | {vae.convolution} | {stride} | {vae.latent_channels} | {flops.vae_params(vae) / 1e6:.4g}M "
        f"| {encode / 1e9:.4g} | {decode / 1e9:.4g} |"
    )


def main() -> None:
    frames, height, width = CLIP
    lines = [
        "| preset | width | depth | heads | N | all parameters | GFLOP a forward | GFLOP an update |",
        "|---|---|---|---|---|---|---|---|",
        *(dit_row(name, dit_preset(name)) for name in (*PAPER_DITS, *DIAL)),
        "",
        f"| preset | convolutions | t, h, w | channels | parameters | GFLOP to encode {frames}x{height}x{width} "
        "| to decode |",
        "|---|---|---|---|---|---|---|",
        *(vae_row(name, vae) for name, vae in VAE_PRESETS.items()),
    ]
    print("\n".join(lines))


if __name__ == "__main__":
    main()
