"""A scheduler that does not answer, answers wrongly, refuses, or accepts no more jobs."""

import pytest

from scaling.core.attempts import SILENT_LIMIT
from scaling.core.errors import UserError
from scaling.core.stage_folder import StageFolder
from slurm.scheduler import FAILURES, LONGEST_PAUSE, FullError, Scheduler, SchedulerDownError
from slurm.submissions import Submissions
from tests.submit.launching import expected, jobs_of, launcher, queued_stages


def test_a_queue_that_is_empty_by_mistake_makes_no_duplicates(slurm, out, clock):
    jobs = jobs_of(5)
    launcher(out, clock).submit("s", jobs, print)
    with slurm.having(squeue_lies_empty=True):
        assert launcher(out, clock).submit("s", jobs, print).submitted == []
    assert queued_stages(slurm, out) == expected(jobs, out)


def test_a_scheduler_that_is_down_for_ten_minutes_gets_few_calls_and_then_everything(slurm, out, clock):
    slurm.set(down=True)
    clock.alarms.append((clock.now + 600, lambda: slurm.set(down=False)))
    jobs = jobs_of(40)
    launcher(out, clock).submit("s", jobs, print)
    assert queued_stages(slurm, out) == expected(jobs, out)
    failed = [call for call in slurm.calls() if call.code]
    assert FAILURES <= len(failed) <= 10
    assert [call.command[0] for call in failed].count("sbatch") == 1  # after that, it is looked for


def test_the_circuit_breaker_is_shared_by_all_processes(slurm, out, clock):
    slurm.set(down=True)
    schedulers = [Scheduler(out / "slurm", clock=clock) for _ in range(10)]
    for _ in range(20):
        for scheduler in schedulers:
            with pytest.raises(SchedulerDownError):
                scheduler.queue()
    assert len(slurm.calls()) == FAILURES
    clock.sleep(LONGEST_PAUSE)
    slurm.set(down=False)
    assert schedulers[0].queue() == []


def test_a_scheduler_that_does_not_come_back_is_given_up(slurm, out, clock):
    slurm.set(down=True)
    with pytest.raises(SchedulerDownError, match="does not answer"):
        launcher(out, clock, timeout=900).submit("s", jobs_of(3), print)
    assert clock.now <= 1_800_000_000 + 900


def test_a_refusal_is_passed_on_and_leaves_no_trace(slurm, out, clock):
    with pytest.raises(UserError, match="invalid partition"):
        launcher(out, clock, partition="nowhere").submit("s", jobs_of(3), print)
    assert Submissions(out).all() == []
    assert queued_stages(slurm, out) == {}


class FullScheduler(Scheduler):
    """Accepts `room` jobs, as a limit of an account may."""

    room = 0

    def submit(self, script):
        size = next(
            int(line.split("-")[-1].split("%")[0]) for line in script.read_text().splitlines() if "--array" in line
        )
        if size >= self.room:
            raise FullError("Job violates accounting/QOS policy (job submit limit, user's size and/or time limits)")
        self.room -= size + 1
        return super().submit(script)


def test_where_no_more_jobs_are_accepted_the_patrol_is_submitted_first(slurm, out, clock):
    jobs = jobs_of(40)
    patient_launcher = launcher(out, clock)
    patient_launcher.scheduler = patient_launcher.retrier.scheduler = FullScheduler(out / "slurm", clock=clock)
    patient_launcher.scheduler.room = 1 + 1 + 17
    done = patient_launcher.submit("s", jobs, print)
    assert "job submit limit" in done.queue_full
    assert [(submission.role, len(submission.job_ids)) for submission in done.submitted] == [
        ("patrol", 1),
        ("stages", 1),
        ("stages", 17),
    ]
    assert queued_stages(slurm, out)[out.name] == 1
    launcher(out, clock).submit("s", jobs, print)
    assert queued_stages(slurm, out) == expected(jobs, out)


def test_an_array_that_would_never_be_accepted_is_a_user_error(slurm, out, clock):
    patient_launcher = launcher(out, clock)
    patient_launcher.scheduler = patient_launcher.retrier.scheduler = FullScheduler(out / "slurm", clock=clock)
    patient_launcher.scheduler.room = 3
    StageFolder.create(out / "runs", jobs_of(9)[0].stage).finish()
    with pytest.raises(UserError, match=r"takes no array of 9 jobs .* give a smaller max_array_size"):
        patient_launcher.submit("s", jobs_of(9), print)


def test_jobs_that_never_start_to_work_are_not_submitted_without_end(slurm, out, clock):
    """The Python does not exist: every job ends with 127."""
    jobs, tried = jobs_of(1), 0
    StageFolder.create(out / "runs", jobs[0].stage).finish()
    while True:
        done = launcher(out, clock).submit("s", jobs, print)
        if jobs[1].id in done.blocked:
            break
        tried += 1
        for job in slurm.startable():
            slurm.start(job.id)
            slurm.fail(job.id, "FAILED", "127:0")
        clock.sleep(100)
    assert tried == SILENT_LIMIT
    assert "ended before they started to work" in done.blocked[jobs[1].id]
