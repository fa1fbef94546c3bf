"""Checks that the cluster has what its file says, before anything is submitted: a mistake is one line at once, and not
a failed job hours later."""

import re
from collections.abc import Sequence
from difflib import get_close_matches

from scaling.core.errors import UserError
from slurm.cluster import SlurmCluster
from slurm.scheduler import Scheduler


def check(cluster: SlurmCluster, scheduler: Scheduler) -> None:
    """Raises UserError where a partition does not exist, or allows fewer GPUs, nodes or CPUs, less memory or less time
    than the cluster file says."""
    rows = scheduler.partitions()
    for field, name in (("partition", cluster.partition), ("light.partition", cluster.light.partition)):
        names = sorted({row[0] for row in rows})
        if name is not None and name not in names:
            close = get_close_matches(name, names, 1)
            hint = f"did you mean '{close[0]}'?" if close else f"there are {', '.join(names)}"
            raise _user_error(cluster, f"{field}: there is no '{name}'; {hint}")
    partition_rows = [row for row in rows if row[0] == cluster.partition] if cluster.partition else rows
    where = f"partition {cluster.partition}" if cluster.partition else "the cluster"
    largest = max((_gpus(row[1], cluster.gpu_type) for row in partition_rows), default=0)
    kind = f" of type {cluster.gpu_type}" if cluster.gpu_type else ""
    if largest < cluster.gpus_per_node:
        raise _user_error(
            cluster, f"gpus_per_node is {cluster.gpus_per_node}, but a node of {where} has {largest}{kind}"
        )
    fitting = [row for row in partition_rows if _gpus(row[1], cluster.gpu_type) >= cluster.gpus_per_node]
    nodes = sum(int(row[2]) for row in fitting)
    if nodes < cluster.max_nodes:
        raise _user_error(cluster, f"max_nodes is {cluster.max_nodes}, but {where} has {nodes} such nodes")
    _check_node(cluster, fitting, where)
    longest = max(_hours(row[3]) for row in fitting)
    if longest < cluster.hours_limit:
        raise _user_error(cluster, f"hours_limit is {cluster.hours_limit:g}, but {where} allows {longest:g} h")


def _check_node(cluster: SlurmCluster, rows: Sequence[Sequence[str]], where: str) -> None:
    cpus, cpus_there = cluster.cpus_per_gpu * cluster.gpus_per_node, max(_number(row[4]) for row in rows)
    if cpus > cpus_there:
        raise _user_error(
            cluster, f"cpus_per_gpu is {cluster.cpus_per_gpu}: {cpus} a node, but a node of {where} has {cpus_there}"
        )
    if cluster.mem_gb_per_gpu is not None:
        requested, available = (
            cluster.mem_gb_per_gpu * cluster.gpus_per_node,
            max(_number(row[5]) for row in rows) / 1024,
        )
        if requested > available:
            raise _user_error(
                cluster, f"mem_gb_per_gpu: {requested:g} GB a node, but a node of {where} has {available:.0f}; lower it"
            )


def _user_error(cluster: SlurmCluster, text: str) -> UserError:
    return UserError(f"cluster {cluster.name}: {text}")


def _gpus(gres: str, kind: str | None) -> int:
    """Number of GPUs of a node, from sinfo's GRES such as `gpu:h100:8(S:0-1)`."""
    entries = re.findall(r"\bgpu(?::([^:,()]+))?:(\d+)\b(?!\.)", gres, re.IGNORECASE)
    return sum(int(count) for name, count in entries if kind is None or name.lower() == kind.lower())


def _hours(text: str) -> float:
    """Hours, from sinfo's `[days-]hours:minutes:seconds` or `infinite`."""
    if not re.fullmatch(r"(\d+-)?[\d:]+", text):
        return float("inf")
    days, _, clock = text.rpartition("-")
    hours, minutes, seconds = (["0", "0", *clock.split(":")])[-3:]
    return 24 * float(days or 0) + float(hours) + float(minutes) / 60 + float(seconds) / 3600


def _number(text: str) -> int:
    """A number of sinfo, which adds a `+` where the nodes of a row differ."""
    return int(text.rstrip("+"))
