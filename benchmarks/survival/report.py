"""The results as a table in Markdown. A dash is what a tool does not set out to do; docs/survival.md says why."""

import platform
import subprocess
from collections.abc import Sequence
from datetime import date

from benchmarks.survival.faults import FAULTS, TOOLS, Result
from scaling.records import versions

NAMES = {"ours": "this project", "submitit": "Submitit", "lightning": "Lightning"}
BY_DESIGN = {
    ("submitit", "killsave"): 1,
    ("lightning", "killsave"): 1,
    ("submitit", "cancelled"): 2,
    ("lightning", "cancelled"): 2,
    ("submitit", "memory"): 3,
    ("lightning", "memory"): 3,
}
"""What a tool does not set out to do: (tool, fault) -> number of a footnote in docs/survival.md."""


def markdown(results: Sequence[Result], seconds: float) -> str:
    """Versions, and a row for each fault."""
    by_case = {(result.tool, result.fault): result for result in results}
    lines = [
        f"{date.today()}, {_slurm()}, {_python()}; {seconds / 60:.0f} minutes",
        "",
        f"| fault | {' | '.join(NAMES[tool] for tool in TOOLS)} |",
        f"|---|{'---|' * len(TOOLS)}",
    ]
    for fault, name in FAULTS.items():
        cells = [_cell(by_case[tool, fault], by_case[tool, "undisturbed"]) for tool in TOOLS]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _cell(result: Result, undisturbed: Result) -> str:
    if not result.finished:
        footnote = BY_DESIGN.get((result.tool, result.fault))
        return f"-[^{footnote}]" if footnote else f"**does not finish**: {_short(result.note)}"
    if result.digest == "":
        return f"ends, {_short(result.note)}"
    if result.not_a_number:
        return "**ends as if all were well**, weights are NaN"
    bits = "same bits" if result.digest == undisturbed.digest else "other bits"
    words = [bits, f"{result.again} again"]
    if result.copies > 1:
        words.append(f"**{result.copies} copies**")
    return ", ".join(words)


def _short(text: str) -> str:
    return text.replace("|", "/").replace("\n", " ").strip()[:90]


def _slurm() -> str:
    done = subprocess.run(
        ["dpkg-query", "-W", "-f=${Version}", "slurmctld"], capture_output=True, text=True, check=False
    )
    return f"SLURM {done.stdout or '?'}"


def _python() -> str:
    found = versions("submitit", "lightning", "torch")
    return ", ".join(f"{name} {version}" for name, version in found.items()) + f", {platform.system()}"
