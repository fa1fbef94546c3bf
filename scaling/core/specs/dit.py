"""Spec of the diffusion transformer."""

from typing import Literal, Self

from pydantic import Field, model_validator

from scaling.core.specs.base import Spec

Prediction = Literal["velocity", "clean"]
"""What a network of the flow predicts: dz/dt, or the clean data."""


class DiTSpec(Spec):
    """A text-conditional video diffusion transformer over spacetime patches."""

    width: int = Field(64, ge=16)
    """Channels of a token."""
    depth: int = Field(3, ge=1)
    """Number of blocks."""
    head_dim: int = Field(32, ge=8)
    """Channels of an attention head."""
    mlp_ratio: float = Field(4.0, gt=0)
    """Hidden width of a block's MLP over the width."""
    patch: int = Field(2, ge=1)
    """Side of the square of latents that becomes one token; time is not patched: (1, patch, patch)."""
    prediction: Prediction = "velocity"
    """What the network predicts: the velocity dz/dt, or the clean data. The loss is of the velocity in both cases."""
    modulation: Literal["shared", "per_block"] = "shared"
    """Whether one matrix makes the adaLN modulation of all blocks, or each block has its own as in the DiT paper."""
    shift_tokens: int = Field(256, ge=1)
    """Tokens of a clip whose flow times are not shifted; longer clips get more noise. See
    `scaling.diffusion.flow.shift`."""

    @property
    def heads(self) -> int:
        """Number of attention heads."""
        return self.width // self.head_dim

    @model_validator(mode="after")
    def _divides(self) -> Self:
        if self.width % self.head_dim:
            raise ValueError(f"width is {self.width}, which head_dim {self.head_dim} does not divide")
        if self.head_dim % 2:
            raise ValueError(f"head_dim is {self.head_dim}, but rotary embedding needs an even one")
        return self
