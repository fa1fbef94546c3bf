"""Named sizes: `DIT_LADDER`, a fine ladder of one family, and `VAE_PRESETS`, from a laptop's to a cluster's."""

from scaling.specs import DiTSpec, VAESpec, VAEStage

VAE_PRESETS: dict[str, VAESpec] = {
    # 4x8x8 with 8 channels, for worlds of coloured shapes: trains in about a minute on two cores.
    "tiny": VAESpec(patch=4, stages=(VAEStage(width=32, down="both"), VAEStage(width=96, down="time"))),
    # The same pyramid with more room, for real videos on one GPU.
    "small": VAESpec(
        patch=2,
        stages=(VAEStage(width=64, down="space"), VAEStage(width=128, down="both"), VAEStage(width=256, down="time")),
        blocks=2,
        latent_channels=16,
    ),
    # Channels and pyramid of Wan 2.1's VAE (arXiv 2503.20314): 4x8x8, 16 channels.
    "base": VAESpec(
        patch=1,
        stages=(
            VAEStage(width=96, down="space"),
            VAEStage(width=192, down="both"),
            VAEStage(width=384, down="both"),
            VAEStage(width=384, down="none"),
        ),
        blocks=2,
        latent_channels=16,
    ),
}

DIT_LADDER: dict[str, DiTSpec] = {
    f"w{width}d{depth}": DiTSpec(width=width, depth=depth, head_dim=head_dim)
    for width, depth, head_dim in (
        (32, 2, 16),
        (48, 2, 16),
        (64, 2, 32),
        (64, 3, 32),
        (96, 3, 32),
        (96, 4, 32),
        (128, 4, 32),
        (128, 5, 32),
        (160, 5, 32),
        (192, 6, 32),
        (256, 8, 64),
        # S, B, L and XL of the DiT paper (arXiv 2212.09748, table 1)
        (384, 12, 64),
        (768, 12, 64),
        (1024, 24, 64),
        (1152, 28, 72),
    )
}
