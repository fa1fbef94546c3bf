"""What a testbed can be asked for. Not the lines of slurm.conf: those are in `slurm.testbed.configuration`."""

import os
from dataclasses import dataclass, field
from pathlib import Path

NODES = ("n0", "n1")
GPUS_PER_NODE = 8
CPUS_PER_NODE = 16
MEMORY_MB = 20000
"""What each node claims; the machine need not have it."""


def default_folder() -> Path:
    """A folder of this user's, on a local disk: unix sockets are in it."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "scaling" / "slurm-testbed"


@dataclass(frozen=True)
class Settings:
    """One testbed. Two of them run side by side if their folders differ."""

    folder: Path = field(default_factory=default_folder)
    """Holds everything that the testbed writes, and nothing else; `stop` removes it."""
    accounting: bool = False
    """Whether a database is started as well, so that sacct knows jobs. Many clusters have none."""
    user_signal: bool = False
    """Whether a job that is preempted gets the signal that its --signal names (SLURM's preempt_send_user_signal)."""
    grace_seconds: int = 0
    """How long a preempted job may run on after its first signal (GraceTime of partition main)."""
    max_array_size: int = 17
    """SLURM's MaxArraySize: indices end one below it. Small, so that 60 runs need several arrays."""
