"""The queue cache: many readers, few questions to the scheduler."""

import pytest

from scaling.core.errors import NoSpaceError
from slurm.queue_cache import read_cached_queue
from slurm.scheduler import QUERY_SECONDS, Scheduler
from tests.imitation.handle import Imitation
from tests.submit.launching import jobs_of, launcher


def test_ten_readers_ask_the_scheduler_once_in_thirty_seconds(slurm, out, clock):
    jobs = jobs_of(3)
    launcher(out, clock).submit("s", jobs, print)
    before = len(slurm.calls())
    for _ in range(10):
        view = read_cached_queue(out / "slurm", Scheduler(out / "slurm", clock=clock), lambda view: [])
        clock.sleep(QUERY_SECONDS / 10 - 0.1)
    assert len(slurm.calls()) == before + 1
    assert len(view.queue) == 6


def test_a_reader_that_cannot_write_asks_no_more_often(slurm, out, clock, monkeypatch):
    launcher(out, clock).submit("s", jobs_of(1), print)

    def full(path, document):
        raise NoSpaceError("no space left on the device")

    monkeypatch.setattr("slurm.queue_cache.write_document", full)
    before = len(slurm.calls())
    for _ in range(5):
        read_cached_queue(out / "slurm", Scheduler(out / "slurm", clock=clock), lambda view: [])
        clock.sleep(QUERY_SECONDS / 10)
    assert len(slurm.calls()) == before + 1


@pytest.mark.parametrize("accounting", [True, False])
def test_accounting_is_asked_after_the_queue_and_only_where_it_exists(tmp_path, monkeypatch, clock, accounting):
    imitation = Imitation(tmp_path / "slurm", accounting=accounting)
    monkeypatch.setenv("PATH", imitation.environment["PATH"])
    out = tmp_path / "out"
    launcher(out, clock).submit("s", jobs_of(1), print)
    imitation.start("1_0")
    imitation.fail("1_0", "NODE_FAIL")
    for _ in range(4):
        view = read_cached_queue(out / "slurm", Scheduler(out / "slurm", clock=clock), lambda view: ["1"])
        clock.sleep(QUERY_SECONDS)
    assert view.ended == ({"1_0": "NODE_FAIL"} if accounting else {})
    assert len(imitation.calls("sacct")) == 1
    assert not view.problem
