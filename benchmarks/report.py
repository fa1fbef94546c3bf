"""From cases to rows: what each contender took, against ours and against the machine's ceiling."""

import platform
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from benchmarks.cases import Case
from benchmarks.measure import Timing, count_flops, peak_memory, take_turns
from benchmarks.precision import Precision

PACKAGES = ("torch", "diffusers")


@dataclass(frozen=True)
class Row:
    """One contender of one case."""

    name: str
    params: int
    timing: Timing
    units: int
    flops: float
    peak_bytes: int

    @property
    def flops_per_second(self) -> float:
        return self.flops / self.timing.median


@dataclass(frozen=True)
class Result:
    """One case; the first row is ours."""

    case: Case
    rows: list[Row]

    def against_ours(self, row: Row) -> tuple[float, float, float]:
        """Lower quartile, median and upper quartile of a row's time over ours of the same round."""
        return row.timing.slower_than(self.rows[0].timing)


def measure(case: Case, device: torch.device, seconds: float, threads: int) -> Result:
    """Times the contenders in turns for about so many seconds, then counts FLOPs and looks at memory."""
    torch.manual_seed(0)
    contenders = [build(device) for build in case.contenders.values()]
    timings = take_turns([contender.step for contender in contenders], device, seconds)
    flops = [contender.flops or count_flops(contender.step) for contender in contenders]
    shown = [(contender.name, contender.params, contender.units) for contender in contenders]
    del contenders  # or their memory would be in the way of the next
    peaks = [peak_memory(build, device, threads) for build in case.contenders.values()]
    rows = [
        Row(name, params, timing, units, flop, peak)
        for (name, params, units), timing, flop, peak in zip(shown, timings, flops, peaks, strict=True)
    ]
    return Result(case, rows)


def setting(device: torch.device, threads: int, ceilings: dict[Precision, float]) -> dict[str, Any]:
    """The machine, in a sentence and in fields."""
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else _processor()
    versions = {package: version(package) for package in PACKAGES}
    tops = ", ".join(f"{ceiling / 1e9:,.0f} GFLOP/s in {precision}" for precision, ceiling in ceilings.items())
    text = (
        f"{name}, {f'{threads} threads, ' if device.type == 'cpu' else ''}"
        f"{', '.join(f'{package} {number}' for package, number in versions.items())}; "
        f"matrix products at most {tops}."
    )
    return {"device": name, "threads": threads, "versions": versions, "text": text}


def _processor() -> str:
    """The processor's name; Linux keeps it in a file, others tell Python."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    return next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), platform.processor())


HEADER = "\n".join(
    [
        "| work | shape | precision | who | parameters | ms | time against ours (quartiles) | thousands a second "
        "| utilization | MB |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
)


def markdown(result: Result, ceiling: float) -> str:
    """The rows of one case under HEADER. The ratio is of the times: above 1, the contender is slower than ours."""
    case, lines = result.case, []
    for row in result.rows:
        low, middle, high = result.against_ours(row)
        ratio = "1" if row is result.rows[0] else f"**{middle:.2f}** ({low:.2f} to {high:.2f})"
        lines.append(
            f"| {case.kind} | {case.shape} | {case.precision} | {row.name} | {row.params / 1e6:.2f}M "
            f"| {1e3 * row.timing.median:.1f} | {ratio} "
            f"| {row.units / row.timing.median / 1e3:.1f} {case.unit} "
            f"| {row.flops_per_second / ceiling:.0%} | {row.peak_bytes / 1e6:.0f} |"
        )
    return "\n".join(lines)


def waste_markdown(name: str, shares: dict[str, float]) -> str:
    """A sentence on the waste in batches of the mixture of this name."""
    parts = ", ".join(f"{share:.1%} {method}" for method, share in shares.items())
    return f"Positions that carry no clip, in batches of {name.split(' ', 1)[1]}: {parts}."


def document(
    results: list[Result],
    wasted: dict[str, dict[str, float]],
    machine: dict[str, Any],
    ceilings: dict[Precision, float],
) -> dict[str, Any]:
    """Everything as JSON."""
    rows = [
        {
            "work": result.case.kind,
            "shape": result.case.shape,
            "precision": result.case.precision,
            "name": row.name,
            "params": row.params,
            "seconds": row.timing.median,
            "seconds_quartiles": row.timing.spread,
            "against_ours": result.against_ours(row),
            f"{result.case.unit}_per_second": row.units / row.timing.median,
            "flops": row.flops,
            "utilization": row.flops_per_second / ceilings[result.case.precision],
            "peak_bytes": row.peak_bytes,
        }
        for result in results
        for row in result.rows
    ]
    fields = {key: value for key, value in machine.items() if key != "text"}
    return {**fields, "matmul_flops_per_second": ceilings, "waste": wasted, "rows": rows}
