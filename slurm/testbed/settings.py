"""The settings of a testbed. Not the lines of slurm.conf, which are in `slurm.testbed.configuration`."""

import os
from dataclasses import dataclass, field
from pathlib import Path

NODES = ("n0", "n1")
GPUS_PER_NODE = 8
CPUS_PER_NODE = 16
MEMORY_MB = 20000
"""What each node claims to have. The machine need not have it."""


def default_folder() -> Path:
    """A folder of this user. It has to be on a local disk, because it holds unix sockets."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "scaling" / "slurm-testbed"


@dataclass(frozen=True)
class Settings:
    """The settings of one testbed. Two testbeds with different folders can run side by side."""

    folder: Path = field(default_factory=default_folder)
    """Folder that holds everything that the testbed writes, and nothing else; `stop` removes it."""
    accounting: bool = False
    """Whether a database is started as well, so that sacct knows the jobs. Many clusters have no accounting."""
    user_signal: bool = False
    """Whether a preempted job receives the signal that its --signal names (SLURM's preempt_send_user_signal)."""
    grace_seconds: int = 0
    """Seconds that a preempted job may continue after its first signal (GraceTime of partition main)."""
    max_array_size: int = 17
    """SLURM's MaxArraySize; the largest index is one below it. It is small, so that 60 runs need several arrays."""
