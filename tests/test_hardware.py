"""What a sweep's hardware section leaves open follows from the machine."""

import pytest

from scaling.core.errors import UserError
from scaling.core.specs import EngineSpec, parse_spec
from sweeps.hardware import HardwareSpec


@pytest.mark.parametrize(
    ("cores", "memory", "jobs", "threads"),
    [(1, 4e9, 1, 1), (2, 4e9, 2, 2), (2, 2e9, 1, 2), (4, 16e9, 4, 4), (8, 32e9, 8, 8), (16, 64e9, 16, 8)],
)
def test_jobs_and_threads_follow_the_cores_and_the_memory(cores, memory, jobs, threads):
    hardware = HardwareSpec().on_machine(cores, memory)
    assert (hardware.jobs, hardware.target_threads) == (jobs, threads)
    assert (hardware.training(alone=True).cores, hardware.training(alone=False).cores) == (threads, 1)
    assert (hardware.single(alone=True).cores, hardware.single(alone=False).cores) == (threads, 1)


def test_what_is_given_stays():
    hardware = HardwareSpec(jobs=3, target_threads=1).on_machine(16, 64e9)
    assert (hardware.jobs, hardware.target_threads) == (3, 1)


def test_a_machine_with_gpus_has_a_rank_for_each():
    hardware = HardwareSpec(gpus=2, engine=EngineSpec(processes=2), threads=4).on_machine(16, 64e9)
    assert hardware.training(alone=True).processes == hardware.training(alone=False).processes == 2
    assert hardware.training(alone=True).threads == 4


@pytest.mark.parametrize(
    ("section", "words"),
    [
        ({"engine": {"threads": 2}}, "target_threads"),
        ({"gpus": 2}, "one for each GPU"),
    ],
)
def test_a_section_that_contradicts_itself_is_a_user_error(section, words):
    with pytest.raises(UserError, match=words):
        parse_spec(HardwareSpec, section, "hardware.yaml")
