"""Specs of the video VAE and of its training."""

from typing import Literal, Self

from pydantic import Field, model_validator

from scaling.core.specs.base import Spec


class VAEStage(Spec):
    """One level of the VAE's pyramid."""

    width: int = Field(ge=4)
    """Channels of the residual blocks of this level."""
    down: Literal["none", "space", "time", "both"] = "none"
    """Which sides of the video are halved after this level."""

    @property
    def halves_space(self) -> bool:
        """Whether height and width are halved after this level."""
        return self.down in ("space", "both")

    @property
    def halves_time(self) -> bool:
        """Whether the number of frames is halved after this level."""
        return self.down in ("time", "both")


class VAESpec(Spec):
    """A causal video VAE: 1 + T frames become 1 + T/4 latent frames."""

    patch: int = Field(4, ge=1)
    """Side in pixels of the squares that become channels before the first level."""
    stages: tuple[VAEStage, ...] = (VAEStage(width=32, down="both"), VAEStage(width=96, down="time"))
    """Levels of the encoder, which the decoder mirrors."""
    blocks: int = Field(1, ge=1)
    """Residual blocks in each level."""
    latent_channels: int = Field(8, ge=1)
    """Channels of the latents."""
    convolution: Literal["factorised", "full"] = "factorised"
    """Kind of convolution. `factorised` is 3x3 in space, then 3 taps in time. `full` is causal 3x3x3; it also has a
    middle with attention inside each frame, one more block in each level of the decoder, and a decoder that halves its
    width where it doubles height and width."""

    @property
    def spatial_stride(self) -> int:
        """Pixels of height or width that one latent covers."""
        return int(self.patch * 2 ** sum(int(stage.halves_space) for stage in self.stages))

    @property
    def temporal_stride(self) -> int:
        """Frames that one latent frame covers."""
        return int(2 ** sum(int(stage.halves_time) for stage in self.stages))

    @property
    def widths_after(self) -> tuple[int, ...]:
        """Channels that each level hands to the next; the last keeps its own."""
        return (*(stage.width for stage in self.stages[1:]), self.stages[-1].width)

    @model_validator(mode="after")
    def _stride(self) -> Self:
        if self.temporal_stride != 4:
            raise ValueError(f"the stages halve time to a stride of {self.temporal_stride}, but it must be 4")
        return self


class VAETrainSpec(Spec):
    """How the VAE is trained."""

    steps: int = Field(1400, ge=1)
    """Updates of the weights."""
    batch_clips: int = Field(8, ge=1)
    """Crops in a batch."""
    crop: int = Field(32, ge=8)
    """Side of the square training crop in pixels."""
    crop_frames: int = Field(9, ge=1)
    """Frames of the training crop: 1 + 4k."""
    kl_weight: float = Field(1e-3, ge=0)
    """Weight of the Kullback-Leibler divergence of the latents from a standard normal distribution."""
    foreground_weight: float = Field(4.0, ge=0)
    """Additional weight of the L1 loss at pixels that differ from the median color of their clip; 0 is the plain L1
    loss."""
    lpips_weight: float = Field(0.0, ge=0)
    """Weight of the perceptual distance by VGG16, where the L1 loss has weight 1; 0 leaves it out."""
    gan_weight: float = Field(0.0, ge=0)
    """Weight of the adversarial loss against a discriminator of clips; 0 leaves it out."""
    gan_from: float = Field(0.7, ge=0, lt=1)
    """Fraction of the steps after which the adversarial loss begins."""
    muon_lr: float = Field(2e-2, gt=0)
    """Peak learning rate of Muon, which updates the matrices."""
    adamw_lr: float = Field(3e-3, gt=0)
    """Peak learning rate of AdamW, which updates all other weights."""
    seed: int = Field(0, ge=0)
    """Seed of the weights, the crops and the noise."""

    @model_validator(mode="after")
    def _large_enough(self) -> Self:
        if self.lpips_weight and self.crop < 16:
            raise ValueError(f"crop is {self.crop}, but the perceptual loss needs 16: raise it, or drop lpips_weight")
        return self
