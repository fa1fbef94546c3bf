"""The limits of a container count, whichever version of control groups says them."""

import os

import pytest

from scaling.core import machine


@pytest.fixture
def groups(tmp_path, monkeypatch):
    monkeypatch.setattr(machine, "CGROUPS", tmp_path / "cgroup")
    monkeypatch.setattr(machine, "OWN_CGROUPS", tmp_path / "own")
    if hasattr(os, "sched_getaffinity"):
        monkeypatch.setattr(os, "sched_getaffinity", lambda _: range(64))
    monkeypatch.setattr(os, "cpu_count", lambda: 64)

    def write(own, **files):
        (tmp_path / "own").write_text(own)
        for name, text in files.items():
            path = tmp_path / "cgroup" / name.replace("__", "/").replace("_dot_", ".")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)

    return write


def test_without_a_limit_the_cores_that_the_process_may_use_count(groups):
    groups("0::/\n", cpu_dot_max="max 100000\n", memory_dot_max="max\n")
    assert machine.usable_cores() == 64
    assert machine.usable_memory() == os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


@pytest.mark.parametrize(("quota", "cores"), [("200000 100000", 2), ("150000 100000", 2), ("50000 100000", 1)])
def test_a_quota_of_version_2_is_rounded_up(groups, quota, cores):
    groups("0::/\n", cpu_dot_max=quota)
    assert machine.usable_cores() == cores


def test_the_smallest_limit_of_all_groups_above_counts(groups):
    groups("0::/a/b\n", a__b__cpu_dot_max="max 100000", a__cpu_dot_max="300000 100000", a__memory_dot_max="1000000")
    assert (machine.usable_cores(), machine.usable_memory()) == (3, 1_000_000)


def test_a_limit_of_version_1(groups):
    groups(
        "4:memory:/box\n1:cpu,cpuacct:/box\n0::/\n",
        **{"cpu,cpuacct__box__cpu.cfs_quota_us": "400000", "cpu,cpuacct__box__cpu.cfs_period_us": "100000"},
        memory__box__memory_dot_limit_in_bytes="2000000",
    )
    assert (machine.usable_cores(), machine.usable_memory()) == (4, 2_000_000)


def test_a_system_without_control_groups(groups):
    assert machine.usable_cores() == 64
