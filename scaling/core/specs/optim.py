"""Spec of the diffusion transformer's training."""

from typing import Literal, Self

from pydantic import Field, model_validator

from scaling.core.specs.base import Spec


class OptimSpec(Spec):
    """How a DiT is trained: Muon on the matrices of the blocks and AdamW on all other weights, or AdamW on all."""

    optimizer: Literal["muon", "adamw"] = "muon"
    """The optimizer of the blocks' matrices."""
    muon_lr: float = Field(2e-2, gt=0)
    """Peak learning rate of Muon."""
    adamw_lr: float = Field(5e-3, gt=0)
    """Peak learning rate of AdamW."""
    base_width: int | None = Field(64, ge=1)
    """Width at which `adamw_lr` is the rate of every layer; docs/models.md says how the rates of other widths follow.
    Null uses the same rates at every width."""
    weight_decay: float = Field(0.0, ge=0)
    """Decoupled weight decay of both optimizers."""
    warmup_fraction: float = Field(0.05, ge=0, lt=1)
    """Fraction of the steps, at the beginning, in which the learning rates rise linearly."""
    warmup_steps: int | None = Field(None, ge=0)
    """Number of updates in which the learning rates rise, in place of the fraction. Runs of different lengths that
    share their beginning need it."""
    decay_fraction: float = Field(0.95, gt=0, le=1)
    """Fraction of the steps, at the end, in which the learning rates fall linearly to zero."""
    max_grad_norm: float = Field(1.0, gt=0)
    """Norm to which larger gradients are clipped."""
    batch_tokens: int = Field(2048, ge=1)
    """Most tokens in a batch; clips of any sizes fill it."""
    caption_dropout: float = Field(0.1, ge=0, lt=1)
    """Probability that a clip is trained without its caption, for classifier-free guidance."""
    conditioning_frames: float = Field(0.0, ge=0, lt=1)
    """Probability that some first or last frames of a clip are conditioning frames, which the model sees without noise:
    for animating stills and extending videos."""
    ema_widths: tuple[float, ...] = (0.10,)
    """Relative widths of the power-function averages of the weights (EDM2, arXiv 2312.02696, section 3.1). The first
    average is measured and sampled; the others are kept beside it."""

    @model_validator(mode="after")
    def _ema_widths(self) -> Self:
        if not self.ema_widths or not all(0 < width < 0.29 for width in self.ema_widths):
            raise ValueError(f"ema_widths is {list(self.ema_widths)}, but needs one or more widths between 0 and 0.29")
        return self
