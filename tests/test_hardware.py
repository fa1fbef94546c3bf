"""What a sweep's hardware section leaves open follows from the machine."""

import pytest

from scaling.core.errors import UserError
from scaling.core.specs import EngineSpec, parse_spec
from sweeps.hardware import HardwareSpec


@pytest.mark.parametrize(
    ("cores", "memory", "jobs", "processes", "threads"),
    [
        (1, 4e9, 1, 1, 1),
        (2, 4e9, 2, 2, 1),
        (2, 2e9, 1, 1, 2),
        (4, 16e9, 4, 4, 1),
        (8, 32e9, 8, 4, 2),
        (16, 64e9, 16, 4, 4),
        (16, 6e9, 4, 4, 4),
    ],
)
def test_jobs_and_ranks_follow_the_cores_and_the_memory(cores, memory, jobs, processes, threads):
    hardware = HardwareSpec().on_machine(cores, memory)
    assert (hardware.jobs, hardware.target_processes, hardware.target_threads) == (jobs, processes, threads)
    alone, small = hardware.training(alone=True), hardware.training(alone=False)
    assert (alone.processes, alone.threads, alone.cores) == (processes, threads, processes * threads)
    assert (small.processes, small.threads) == (1, 1)
    assert hardware.single(alone=True).cores == alone.cores  # one process, as many threads
    assert hardware.jobs * small.cores <= max(cores, 1)


def test_what_is_given_stays():
    hardware = HardwareSpec(jobs=3, target_threads=1, target_processes=1).on_machine(16, 64e9)
    assert (hardware.jobs, hardware.target_threads, hardware.target_processes) == (3, 1, 1)


def test_a_machine_with_gpus_has_a_rank_for_each():
    hardware = HardwareSpec(gpus=2, engine=EngineSpec(processes=2), threads=4).on_machine(16, 64e9)
    assert hardware.training(alone=True).processes == hardware.training(alone=False).processes == 2
    assert hardware.training(alone=True).threads == 4


@pytest.mark.parametrize(
    ("section", "words"),
    [
        ({"engine": {"threads": 2}}, "target_threads"),
        ({"engine": {"processes": 2}}, "target_processes"),
        ({"gpus": 1, "target_processes": 2}, "one process for each"),
    ],
)
def test_a_section_that_contradicts_itself_is_a_user_error(section, words):
    with pytest.raises(UserError, match=words):
        parse_spec(HardwareSpec, section, "hardware.yaml")
