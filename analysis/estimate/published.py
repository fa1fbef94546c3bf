"""Figures as a source prints them, beside what its own assumptions give."""

from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from typing import Self

from pydantic import model_validator

from analysis.estimate.worksheet import Result
from scaling.core.specs import Spec


class Published(Spec):
    """What a source prints for a result."""

    printed: str | tuple[str, str]
    """With as many digits as the source gives, such as "1.1e25"; or the low and the high figure."""
    note: str = ""
    """Why it differs from what was computed, where it does."""

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
class Comparison:
    """A printed figure and the computed one."""

    published: float
    computed: float
    deviation: float
    """computed / published - 1."""
    rounds_to_it: bool
    """Whether the computed figure, rounded as the printed one is, may be the printed one."""


def compare(published: Published, result: Result) -> tuple[Comparison, ...]:
    """One comparison with the result's value; where a low and a high figure are printed, one with each end."""
    computed = (result.value,) if isinstance(published.printed, str) else (result.low, result.high)
    return tuple(_compare(text, value) for text, value in zip(published.figures, computed, strict=True))


def _compare(text: str, computed: float) -> Comparison:
    figure = Decimal(text)
    half_a_digit = Decimal(5).scaleb(int(figure.as_tuple().exponent) - 1)
    # Nine digits, so that 6.45, which no binary fraction is, still lies at the edge of 6.5.
    rounded = abs(Decimal(f"{computed:.9g}") - figure) <= half_a_digit
    return Comparison(float(figure), computed, computed / float(figure) - 1, rounded)
