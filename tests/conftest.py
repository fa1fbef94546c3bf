"""What tests borrow from the machine: a disk that is really full, and a real SLURM cluster (docs/testbed.md)."""

import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from scaling.core.errors import UserError
from slurm.testbed import Settings, Testbed


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Callable[[str], Path]]:
    """Mounts a file system of a size such as "300k" and gives its folder; skips where that is not allowed."""
    disk = tmp_path / "disk"

    def mount(size: str) -> Path:
        if os.geteuid() != 0:
            pytest.skip("a small file system is mounted, which needs root")
        disk.mkdir()
        mounted = subprocess.run(
            ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", disk], check=False, capture_output=True
        )
        if mounted.returncode:
            pytest.skip(f"cannot mount a small file system: {mounted.stderr.decode().strip()}")
        return disk

    yield mount
    if disk.is_mount():
        subprocess.run(["umount", disk], check=True)


@pytest.fixture(scope="session")
def testbed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Testbed]:
    """A real SLURM cluster of two nodes, without accounting: sacct fails, as on many clusters."""
    yield from _running(Settings(folder=tmp_path_factory.mktemp("slurm") / "testbed"))


@pytest.fixture(scope="session")
def accounted_testbed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Testbed]:
    """Another one, with accounting: sacct knows the jobs."""
    yield from _running(Settings(folder=tmp_path_factory.mktemp("slurm") / "testbed", accounting=True))


def _running(settings: Settings) -> Iterator[Testbed]:
    testbed = Testbed(settings)
    try:
        testbed.start()
    except UserError as error:
        if os.environ.get("SCALING_NEEDS_SLURM"):
            pytest.fail(f"SCALING_NEEDS_SLURM is set: {error}", pytrace=False)
        pytest.skip(str(error))
    try:
        yield testbed
    finally:
        testbed.stop()
