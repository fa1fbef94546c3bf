"""The machine that this process runs on: its processor, and the cores and memory that may be used. A container's limit
counts, not what the host has."""

import math
import os
import platform
from collections.abc import Iterator
from pathlib import Path

CGROUPS = Path("/sys/fs/cgroup")
OWN_CGROUPS = Path("/proc/self/cgroup")
VECTOR_FEATURES = ("avx2", "avx512f", "avx512_bf16", "amx_bf16", "asimd", "bf16", "sve")
"""Vector instructions of x86 and Arm on which the speed of products in each precision depends."""


def processor() -> str:
    """The processor's name, its architecture, and those of its vector instructions that products are made of."""
    facts: dict[str, str] = {}
    for line in _text(Path("/proc/cpuinfo")).splitlines():  # the first processor's; there is no such file but on Linux
        name, _, value = line.partition(":")
        facts.setdefault(name.strip(), value.strip())
    features = facts.get("flags", facts.get("Features", "")).split()
    name = facts.get("model name") or facts.get("CPU part") or platform.processor()
    return " ".join(part for part in (name, platform.machine(), *(f for f in VECTOR_FEATURES if f in features)) if part)


def usable_cores() -> int:
    """Number of cores that this process may keep busy, at least 1."""
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min([allowed, *map(math.ceil, _cpu_quotas(CGROUPS, OWN_CGROUPS))]))


def usable_memory() -> int:
    """Bytes of memory that this process may use together with its children."""
    physical = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return min([physical, *_memory_limits(CGROUPS, OWN_CGROUPS)])


def _cpu_quotas(cgroups: Path, own: Path) -> Iterator[float]:
    """Cores that each group of the process grants: files of cgroup v2 (`cpu.max`: quota and period in microseconds, or
    `max`) and of v1."""
    for folder in _groups(cgroups, own, "cpu"):
        quota, _, period = _text(folder / "cpu.max").partition(" ")
        if not quota:
            quota, period = _text(folder / "cpu.cfs_quota_us"), _text(folder / "cpu.cfs_period_us")
        if quota.isdigit() and period.isdigit() and int(quota) and int(period):  # v1 says -1 for no limit
            yield int(quota) / int(period)


def _memory_limits(cgroups: Path, own: Path) -> Iterator[int]:
    for folder in _groups(cgroups, own, "memory"):
        limit = _text(folder / "memory.max") or _text(folder / "memory.limit_in_bytes")
        if limit.isdigit() and int(limit):
            yield int(limit)  # v1 says a number above any memory for no limit


def _groups(cgroups: Path, own: Path, controller: str) -> Iterator[Path]:
    """The folders of the groups that the process is in, up to the root: a limit of any of them counts. Inside a
    container the paths in `own` may be the host's; folders that do not exist are passed over."""
    for line in _text(own).splitlines():
        _, controllers, path = line.split(":", 2)
        if controllers and controller not in controllers.split(","):
            continue
        root = cgroups / controllers if controllers else cgroups
        group = root / path.lstrip("/")
        while group != root and root in group.parents:
            yield group
            group = group.parent
        yield root


def _text(path: Path) -> str:
    try:
        return path.read_text().strip()
    except OSError:  # a file system without this controller, or a system without /proc
        return ""
