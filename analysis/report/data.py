"""What the reviewers' page shows, as values. Computes nothing, draws nothing, reads no run's folder.

A value that was not measured is None or left out, and `missing` or a `reason` says why; the page prints the reason and
never a 0.
"""

from pathlib import Path
from typing import Literal, Self

from pydantic import ConfigDict, Field, model_validator

from scaling.core.records import RunRecord
from scaling.core.specs import Spec

Section = Literal["comparison", "prediction", "figures", "runs", "vae", "recipe"]


class PageValue(Spec):
    """The base of the page's values: frozen, without unknown fields, NaN or infinity."""

    model_config = ConfigDict(allow_inf_nan=False)


class ComparisonColumn(PageValue):
    """One compute budget of the comparison. Its numbers are those of its run in `ReportData.runs`."""

    compute: str
    """The label of the budget, such as "base", "4x" or "32x"."""
    run_id: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$")
    reason: str = ""
    """Why the run has no numbers; empty where it has."""


class Prompt(PageValue):
    """One row of the comparison: every column starts from the noise of the same seed."""

    text: str
    seed: int


class PageClip(PageValue):
    """One cell of the comparison at one moment of training."""

    compute: str
    fraction: float = Field(gt=0, le=1)
    """Fraction of training after which the clip was sampled."""
    prompt: int = Field(ge=0)
    """Index of the prompt in `ReportData.prompts`."""
    path: Path | None = None
    """The video file, of a codec that browsers play."""
    reason: str = ""
    """Why there is no file; empty where there is one."""

    @model_validator(mode="after")
    def _path_or_reason(self) -> Self:
        if (self.path is None) != bool(self.reason):
            raise ValueError("a clip has either a path or a reason why it has none")
        return self


class LossPrediction(PageValue):
    """A loss forecast from smaller runs, and what was measured later."""

    target_flops: float
    n_params: float
    """The best N at the target, by the forecast."""
    num_tokens: float
    """The training tokens D of a model of that size at the target."""
    val_loss: float
    low: float | None = None
    high: float | None = None
    level: float | None = Field(None, gt=0, lt=1)
    """Coverage of the interval from `low` to `high`, such as 0.95."""
    measured: float | None = None
    relative_error: float | None = None
    """predicted / measured - 1; below 0 the forecast was too optimistic."""
    inside: bool | None = None
    """Whether `measured` lies in the interval."""


class PageFigure(PageValue):
    """A picture with a title and a caption."""

    title: str
    caption: str
    path: Path
    """The picture, a PNG or SVG file."""


class ReconstructionPair(PageValue):
    """A held-out clip before and after the VAE."""

    original: Path
    decoded: Path


class Reconstructions(PageValue):
    """How much the VAE loses, which bounds the quality of every diffusion model on its latents."""

    run: RunRecord
    """The record of the `vae` stage."""
    pairs: tuple[ReconstructionPair, ...] = ()


class Recipe(PageValue):
    """What is needed to make this page again."""

    commands: tuple[str, ...] = ()
    git_revision: str | None = None
    versions: dict[str, str] = {}
    seeds: dict[str, int] = {}
    settings: dict[str, str] = {}
    stage_ids: dict[str, str] = {}
    """Role -> id of the stage."""


class ReportData(PageValue):
    """The whole page. Only the title is needed."""

    title: str
    sweep: str = ""
    columns: tuple[ComparisonColumn, ...] = ()
    fractions: tuple[float, ...] = ()
    """Moments of training between which the reader can choose, rising."""
    prompts: tuple[Prompt, ...] = ()
    clips: tuple[PageClip, ...] = ()
    """A cell that no clip names is shown as not sampled."""
    prediction: LossPrediction | None = None
    figures: tuple[PageFigure, ...] = ()
    tuning: PageFigure | None = None
    """How the learning rates were found; None where they were given."""
    runs: tuple[RunRecord, ...] = ()
    """Trained runs, each with the metrics `val_loss`, `fvd` and `fvd_infinity` where they were measured."""
    vae: Reconstructions | None = None
    recipe: Recipe | None = None
    missing: dict[Section, str] = {}
    """Section -> why there is nothing to show in it."""

    @model_validator(mode="after")
    def _cells_exist(self) -> Self:
        labels = [column.compute for column in self.columns]
        if len(set(labels)) < len(labels):
            raise ValueError(f"two columns have the same compute label: {', '.join(labels)}")
        if list(self.fractions) != sorted(set(self.fractions)):
            raise ValueError(f"fractions must rise, found {self.fractions}")
        for clip in self.clips:
            if clip.compute not in labels or clip.fraction not in self.fractions or clip.prompt >= len(self.prompts):
                raise ValueError(f"no cell for the clip of {clip.compute} at {clip.fraction}, prompt {clip.prompt}")
        return self
