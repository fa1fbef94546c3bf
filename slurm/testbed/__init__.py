"""A real SLURM cluster on one machine, for tests: two nodes with eight imaginary H100s each, and nothing to administer.

Everything is in one folder: configuration, state, logs, keys. Nothing of the system is touched (no /etc/slurm, no
systemd, no munged or database that already runs), so several testbeds can run side by side. What is imaginary: the
GPUs, and the CPUs and memory that the nodes claim. docs/testbed.md shows how to use it.
"""

from slurm.testbed.cluster import Testbed
from slurm.testbed.settings import Settings

__all__ = ["Settings", "Testbed"]
