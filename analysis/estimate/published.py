"""Figures as a source prints them, and how far the results of its own assumptions are from them."""

from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from typing import Self

from pydantic import model_validator

from analysis.estimate.worksheet import EstimateStep
from scaling.core.specs import Spec


class Published(Spec):
    """A figure that a source prints for a step."""

    printed: str | tuple[str, str]
    """The figure with as many digits as the source gives, such as "1.1e25"; or the low and the high figure."""
    note: str = ""
    """Why the printed figure differs from the computed one, where it does."""

    @model_validator(mode="after")
    def _numbers(self) -> Self:
        for text in self.figures:
            try:
                Decimal(text)
            except InvalidOperation:
                raise ValueError(f"{text!r} is not a number") from None
        return self

    @property
    def figures(self) -> tuple[str, ...]:
        return (self.printed,) if isinstance(self.printed, str) else self.printed


@dataclass(frozen=True)
class Deviation:
    """A printed figure and how far the computed one is from it."""

    published: float
    computed: float
    deviation: float
    """computed / published - 1."""
    rounds_to_it: bool
    """Whether the computed figure, rounded as the printed one is, may be the printed one."""


def deviations(published: Published, step: EstimateStep) -> tuple[Deviation, ...]:
    """The deviation of the step's value; where a low and a high figure are printed, one of each end."""
    computed = (step.value,) if isinstance(published.printed, str) else (step.low, step.high)
    return tuple(_deviation(text, value) for text, value in zip(published.figures, computed, strict=True))


def _deviation(text: str, computed: float) -> Deviation:
    figure = Decimal(text)
    half_a_digit = Decimal(5).scaleb(int(figure.as_tuple().exponent) - 1)
    # Nine digits, so that 6.45, which no binary fraction is, still lies at the edge of 6.5.
    rounded = abs(Decimal(f"{computed:.9g}") - figure) <= half_a_digit
    return Deviation(float(figure), computed, computed / float(figure) - 1, rounded)
