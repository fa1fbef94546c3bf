"""An estimate as lines of text: assumptions, every step with unit and formula, and what was published beside it."""

from collections.abc import Mapping, Sequence
from itertools import groupby

from analysis.estimate.assumptions import Assumption
from analysis.estimate.published import Published, compare
from analysis.estimate.sora import OUTPUTS
from analysis.estimate.worksheet import LEVEL, Result

SAME = 1e-9
"""Relative difference below which two ends are one number: rounding of sums and products."""


def assumption_lines(assumptions: Mapping[str, Assumption]) -> list[str]:
    lines = ["assumptions"]
    for name, one in assumptions.items():
        value = _span(one.low, one.high, one.point, one.unit) + _unit(one.unit)
        middle = f" (middle {number(one.point, one.unit)})" if one.is_range else ""
        lines += [f"  {name:24} {value}{middle}", f"      {one.meaning} [{one.source}]"]
    return lines


def result_lines(results: Mapping[str, Result], published: Mapping[str, Published]) -> list[str]:
    """Every step, in sections."""
    lines = []
    for section, steps in groupby(results.values(), key=lambda result: result.section):
        lines += ["", section]
        for result in steps:
            lines += [f"  {result.name:29} {_value(result)}", f"      = {result.formula}"]
            if result.name in published:
                lines += _published_lines(published[result.name], result)
    return lines


def output_lines(results: Mapping[str, Result]) -> list[str]:
    """The table of inference compute per output."""
    lines = ["", f"{'inference per output':33}{'FLOP':>25}{'over DiT-XL':>16}"]
    first = results[next(iter(OUTPUTS.values()))[0]].value
    for model, (name, output) in OUTPUTS.items():
        result = results[name]
        span = _span(result.low, result.high, result.value, result.unit)
        lines.append(f"  {model:14}{output:17}{span:>25}{number(result.value / first):>16}")
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


def _value(result: Result) -> str:
    text = _span(result.low, result.high, result.value, result.unit) + _unit(result.unit)
    if result.high / result.low - 1 < SAME:
        return text
    low, middle, high = (number(one, result.unit) for one in (result.likely[0], result.value, result.likely[1]))
    return f"{text} ({LEVEL:.0%} in {low} to {high}; middle {middle})"


def _span(low: float, high: float, value: float, unit: str) -> str:
    return number(value, unit) if high / low - 1 < SAME else f"{number(low, unit)} to {number(high, unit)}"


def _published_lines(published: Published, result: Result) -> list[str]:
    found = compare(published, result)
    figures = [
        f"{number(one.published, result.unit)} ({one.deviation:+.1%}{', rounds to it' if one.rounds_to_it else ''})"
        for one in found
    ]
    differs = published.note and not all(one.rounds_to_it for one in found)
    return [f"      published {' and '.join(figures)}", *([f"      ! {published.note}"] if differs else [])]


def _unit(unit: str) -> str:
    return "" if unit == "1" else f" {unit}"
