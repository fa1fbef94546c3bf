"""The results as a table in Markdown. A dash is what a tool does not claim to do; docs/survival.md says why."""

import platform
import subprocess
from collections.abc import Sequence
from datetime import date

from benchmarks.survival.faults import FAULTS, TOOLS, FaultResult
from scaling.core.versions import versions

NAMES = {"ours": "this project", "submitit": "Submitit", "lightning": "Lightning"}
BY_DESIGN = {(tool, fault) for tool in ("submitit", "lightning") for fault in ("killsave", "cancelled", "memory")}
"""Pairs of tool and fault that the tool does not claim to survive."""
FOOTNOTES = {
    ("submitit", "killsave"): "killed",
    ("lightning", "killsave"): "killed",
    ("submitit", "cancelled"): "gone",
    ("lightning", "cancelled"): "gone",
    ("submitit", "memory"): "halved",
    ("lightning", "memory"): "halved",
    ("ours", "memory"): "order",
    ("lightning", "sigterm"): "zero",
    ("submitit", "stale"): "save_tmp",
    ("submitit", "sbatch"): "minute",
    ("submitit", "nan"): "finite",
    ("lightning", "nan"): "finite",
}
"""Names of the footnotes of docs/survival.md, by tool and fault."""


def markdown(results: Sequence[FaultResult], seconds: float) -> str:
    """The versions and the table, with a row for each fault."""
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


def _cell(result: FaultResult, undisturbed: FaultResult) -> str:
    name = FOOTNOTES.get((result.tool, result.fault))
    return _result_text(result, undisturbed) + (f"[^{name}]" if name else "")


def _result_text(result: FaultResult, undisturbed: FaultResult) -> str:
    if not result.finished:
        return "-" if (result.tool, result.fault) in BY_DESIGN else "**does not finish**"
    if result.digest == "":
        return "recorded as diverged"
    if result.not_a_number:
        return "**ends as if all were well**"
    parts = ["same bits" if result.digest == undisturbed.digest else "other bits", f"{result.repeated_updates} again"]
    if result.copies > 1:
        parts.append(f"**{result.copies} copies**")
    return ", ".join(parts)


def _slurm() -> str:
    query = subprocess.run(
        ["dpkg-query", "-W", "-f=${Version}", "slurmctld"], capture_output=True, text=True, check=False
    )
    return f"SLURM {query.stdout or '?'}"


def _python() -> str:
    package_versions = versions("submitit", "lightning", "torch")
    return ", ".join(f"{name} {version}" for name, version in package_versions.items()) + f", {platform.system()}"
