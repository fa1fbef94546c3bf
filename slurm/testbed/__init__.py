"""A real SLURM cluster on one machine, for tests: two nodes with eight imaginary H100s each.

Everything is in one folder: configuration, state, logs, keys. Nothing of the system is changed (/etc/slurm, systemd, a
munged or a database that already runs), so several testbeds can run side by side. The GPUs are imaginary, and so are
the CPUs and the memory that the nodes claim. docs/testbed.md shows how to use it.
"""

from slurm.testbed.settings import Settings
from slurm.testbed.testbed import Testbed

__all__ = ["Settings", "Testbed"]
