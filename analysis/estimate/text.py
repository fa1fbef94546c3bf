"""An estimate as lines of text: the assumptions, every step with its unit and formula, and the published figures."""

from collections.abc import Mapping, Sequence
from itertools import groupby

from analysis.estimate.assumptions import Assumption
from analysis.estimate.published import Published, deviations
from analysis.estimate.sora import OUTPUTS
from analysis.estimate.worksheet import LEVEL, EstimateStep

SAME_NUMBER = 1e-9
"""Relative difference below which two ends are one number: rounding of sums and products."""


def assumption_lines(assumptions: Mapping[str, Assumption]) -> list[str]:
    lines = ["assumptions"]
    for name, assumed in assumptions.items():
        value = _span(assumed.low, assumed.high, assumed.point, assumed.unit) + _unit(assumed.unit)
        middle = f" (middle {number(assumed.point, assumed.unit)})" if assumed.is_range else ""
        lines += [f"  {name:24} {value}{middle}", f"      {assumed.meaning} [{assumed.source}]"]
    return lines


def result_lines(results: Mapping[str, EstimateStep], published: Mapping[str, Published]) -> list[str]:
    """The lines of every step, in sections."""
    lines = []
    for section, steps in groupby(results.values(), key=lambda step: step.section):
        lines += ["", section]
        for step in steps:
            lines += [f"  {step.name:29} {_value(step)}", f"      = {step.formula}"]
            if step.name in published:
                lines += _published_lines(published[step.name], step)
    return lines


def output_lines(results: Mapping[str, EstimateStep]) -> list[str]:
    """The table of inference compute per output."""
    lines = ["", f"{'inference per output':33}{'FLOP':>25}{'over DiT-XL':>16}"]
    first = results[next(iter(OUTPUTS.values()))[0]].value
    for model, (name, output) in OUTPUTS.items():
        step = results[name]
        span = _span(step.low, step.high, step.value, step.unit)
        lines.append(f"  {model:14}{output:17}{span:>25}{number(step.value / first):>16}")
    return lines


def number(value: float, unit: str = "1") -> str:
    """Four digits: 4,211, 15.27M, and 7.074e17 where it is large or of FLOP."""
    if value >= (1e5 if unit.startswith("FLOP") else 1e12) or value < 1e-3:
        mantissa, exponent = f"{value:.3e}".split("e")
        return f"{float(mantissa):g}e{int(exponent)}"
    for size, letter in ((1e9, "B"), (1e6, "M"), (1e3, "k")):
        if value >= max(size, 1e5):
            return f"{value / size:.4g}{letter}"
    return f"{value:,.0f}" if value >= 1000 else f"{value:.4g}"


def joined(*blocks: Sequence[str]) -> str:
    return "\n".join(line for block in blocks for line in block)


def _value(step: EstimateStep) -> str:
    text = _span(step.low, step.high, step.value, step.unit) + _unit(step.unit)
    if step.high / step.low - 1 < SAME_NUMBER:
        return text
    low, middle, high = (number(value, step.unit) for value in (step.likely[0], step.value, step.likely[1]))
    return f"{text} ({LEVEL:.0%} in {low} to {high}; middle {middle})"


def _span(low: float, high: float, value: float, unit: str) -> str:
    return number(value, unit) if high / low - 1 < SAME_NUMBER else f"{number(low, unit)} to {number(high, unit)}"


def _published_lines(published: Published, step: EstimateStep) -> list[str]:
    compared = deviations(published, step)
    rounds = {True: ", rounds to it", False: ""}
    figures = [
        f"{number(figure.published, step.unit)} ({figure.deviation:+.1%}{rounds[figure.rounds_to_it]})"
        for figure in compared
    ]
    differs = published.note and not all(figure.rounds_to_it for figure in compared)
    return [f"      published {' and '.join(figures)}", *([f"      ! {published.note}"] if differs else [])]


def _unit(unit: str) -> str:
    return "" if unit == "1" else f" {unit}"
