"""Specs of what is measured and sampled."""

from typing import Literal, Self

from pydantic import Field, model_validator

from scaling.core.specs.base import Spec

Solver = Literal["euler", "heun", "multistep"]
"""How the flow is integrated: one, two, or one evaluation a step with memory of the last. See
`scaling.diffusion.solvers`."""


class EvalSpec(Spec):
    """What is measured and sampled of every run."""

    val_clips: int = Field(256, ge=1)
    """Most held-out clips in the validation loss; fewer where there are not so many."""
    val_times: int = Field(8, ge=1)
    """Number of stratified flow times (i + 0.5) / n at which the validation loss is measured."""
    prompts: tuple[str, ...] = ()
    """Prompts of the sample grid; where it is empty, the first held-out captions are used."""
    prompt_count: int = Field(4, ge=1)
    """Number of held-out captions that are used where `prompts` is empty."""
    seed: int = Field(0, ge=0)
    """Seed of the sample grid: sample i starts from the noise of seed + i."""
    solver: Solver = "euler"
    """How the flow is integrated."""
    sample_steps: int = Field(20, ge=1)
    """Steps of the solver."""
    guidance: float = Field(2.0, ge=1)
    """Scale of classifier-free guidance; 1 is none."""
    guidance_interval: tuple[float, float] = (0.0, 1.0)
    """Flow times between which guidance acts; outside of them the scale is 1 (arXiv 2404.07724)."""
    sample_at: tuple[float, ...] = (0.1, 0.3, 1.0)
    """Fractions of the training at which the grid is sampled; the last is 1."""

    @model_validator(mode="after")
    def _check_intervals(self) -> Self:
        if not self.sample_at or self.sample_at[-1] != 1.0 or list(self.sample_at) != sorted(set(self.sample_at)):
            raise ValueError("sample_at must rise and end at 1.0")
        if self.sample_at[0] <= 0:
            raise ValueError("sample_at must be above 0")
        if not 0 <= self.guidance_interval[0] < self.guidance_interval[1] <= 1:
            raise ValueError(f"guidance_interval is {list(self.guidance_interval)}, but must rise within 0 and 1")
        return self


class FVDSpec(Spec):
    """The clips that the Fréchet video distance compares."""

    clips: int = Field(48, ge=4)
    """Number of clips on each side, which is the same for all runs."""
    frames: int = Field(16, ge=9)
    """Frames of each clip that are compared; the feature network needs nine."""
