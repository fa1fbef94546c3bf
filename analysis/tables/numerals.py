"""Numbers as people write them: "32,400,000", "3,577", "32.4M", "5.1 x 10^9".

A comma is a decimal comma or separates thousands. One comma before three digits can be either: then the other cells of
the column decide, and where they do not, whoever needs the column is told. Not here: which columns are looked at
(`analysis.tables.number_columns`).
"""

import re
from collections.abc import Iterable
from typing import Literal

Comma = Literal["decimal", "thousands"]
CommaUse = Literal["decimal", "thousands", "either", "both", "none"]
"""What the commas of some cells are: of the first four, at least one cell has a comma."""

MULTIPLES = {"": 0, "k": 3, "m": 6, "b": 9, "g": 9, "t": 12}
"""Letter after a number, in lower case -> the power of ten that it stands for."""
NUMBER = re.compile(
    r"(?P<sign>[-+]?)(?P<digits>[\d.,]+)([eE](?P<exponent>[-+]?\d{1,4}))?(?:\s?(?P<multiple>[kKmMbBgGtT]))?"
)
INFINITY = re.compile(r"[-+]?inf(inity)?", re.IGNORECASE)
GROUPING = re.compile(r"(?<=\d)[ \u00a0\u2009\u202f'\u2019_](?=\d{3}(?!\d))")
"""Marks between groups of three digits that can be nothing else."""
POWER_OF_TEN = re.compile(r"(?<=[\d.])\s*[x×*·]\s*10\s*(\^|\*\*)\s*\{?([-+]?\d+)\}?")
MISSING = {"", "na", "n/a", "#n/a", "nan", "-nan", "null", "none", "<na>"}
"""Cells that hold no value, in lower case."""
NO_NUMBER = MISSING | {"-", "--", "–", "—", "?"}
"""Cells that hold no value in a column of numbers, in lower case."""


def number(text: str, comma: Comma | None = None) -> float | None:
    """The number that a text is; None where it is none, or where only `comma` could say which one."""
    try:
        return float(text)
    except ValueError:
        pass
    text = _tidy(text)
    if INFINITY.fullmatch(text):
        return float(text)
    match = NUMBER.fullmatch(text)
    if match is None:
        return None
    use = _comma_use(match)
    if use is None or (use == "either" and comma is None):
        return None
    if use in ("decimal", "thousands") and comma is not None and use != comma:
        return None
    digits = match["digits"]
    if (comma if use == "either" else use) == "decimal":
        digits = digits.replace(".", "").replace(",", ".")
    elif digits.count(".") > 1:
        digits = digits.replace(".", "")
    exponent = int(match["exponent"] or 0) + MULTIPLES[(match["multiple"] or "").lower()]
    return float(f"{match['sign']}{digits.replace(',', '')}e{exponent}")  # rounded once


def is_number(text: str) -> bool:
    """Whether a text is a number, of whatever value."""
    return number(text, "decimal") is not None or number(text, "thousands") is not None


def has_multiple(text: str) -> bool:
    """Whether a number is written with K, M, B, G or T."""
    match = NUMBER.fullmatch(_tidy(text)) if text[-1:].isalpha() else None
    return match is not None and match["multiple"] is not None


def comma_use(texts: Iterable[str]) -> CommaUse:
    """What the commas of these numbers are, from all of them together."""
    texts = list(texts)
    marked = [text for text in texts if "," in text or text.count(".") > 1]
    if not marked:
        return "none"
    matches = (NUMBER.fullmatch(_tidy(text)) for text in marked)
    uses = {_comma_use(match) for match in matches if match is not None}
    has_point = any(text.count(".") == 1 and "," not in text for text in texts)
    if "decimal" in uses:
        return "both" if "thousands" in uses or has_point else "decimal"
    if "thousands" in uses:
        return "thousands"
    if "either" not in uses:
        return "none"
    if not has_point:
        return "either"
    return "thousands" if has_decimal_point(texts) else "both"


def has_decimal_point(texts: Iterable[str]) -> bool:
    """Whether a point among these numbers can only be a decimal point."""
    return any(re.fullmatch(r"[-+]?(0?\.\d+|\d+\.(?!\d{3}$)\d+)", text) for text in texts)


def may_group_by_points(texts: Iterable[str]) -> bool:
    """Whether all numbers with a point have three digits after it, as 1.234 for 1234 has where commas are decimal."""
    with_point = [text for text in texts if "." in text]
    return bool(with_point) and all(re.fullmatch(r"[-+]?[1-9]\d{0,2}\.\d{3}", text) for text in with_point)


def _tidy(text: str) -> str:
    return GROUPING.sub("", POWER_OF_TEN.sub(r"e\2", text.strip().replace("\u2212", "-")))


def _comma_use(match: re.Match[str]) -> CommaUse | None:
    """None where the digits are no number at all."""
    digits = match["digits"]
    if digits.strip(".,") == "":
        return None
    if "," not in digits:
        if digits.count(".") <= 1:
            return "none"
        return "decimal" if re.fullmatch(r"\d{1,3}(\.\d{3}){2,}", digits) else None
    grouped_by_commas = re.fullmatch(r"\d{1,3}(,\d{3})+(\.\d*)?", digits) is not None
    grouped_by_points = re.fullmatch(r"(\d+|\d{1,3}(\.\d{3})+)?,\d+", digits) is not None
    if grouped_by_commas and grouped_by_points:
        return "decimal" if digits.startswith("0") or match["exponent"] else "either"
    if grouped_by_commas:
        return "thousands"
    return "decimal" if grouped_by_points else None
