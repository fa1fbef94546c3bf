"""Every stage reaches the scheduler once, whatever fails on the way: on an imitation of SLURM's commands."""

import json
import os
import pickle
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest

from scaling.accounting.presets import VAE_PRESETS
from scaling.cli.main import main
from scaling.core.attempts import SILENT
from scaling.core.errors import NoSpaceError, UserError
from scaling.core.specs import DataSpec, VAETrainSpec, WorldSpec
from scaling.core.stage import DataFields, Stage, StageFolder, VAEFields
from slurm import controller_job as steering
from slurm import request
from slurm.arrays import Job
from slurm.cluster import load_cluster
from slurm.queue_cache import look
from slurm.scheduler import FAILURES, LONGEST_PAUSE, QUERY_SECONDS, FullError, Scheduler, SchedulerDownError
from slurm.submissions import Submissions
from slurm.submit import Launcher
from slurm.worker import AGAIN, work
from tests.imitation.handle import Imitation

ROOT = Path(__file__).parents[1]


class Clock:
    """Seconds since the epoch that only pass where somebody sleeps."""

    def __init__(self):
        self.now, self.alarms = 1_800_000_000.0, []

    def __call__(self):
        return self.now

    def sleep(self, seconds):
        self.now += seconds
        for alarm in [alarm for alarm in self.alarms if alarm[0] <= self.now]:
            self.alarms.remove(alarm)
            alarm[1]()


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def slurm(tmp_path, monkeypatch):
    imitation = Imitation(tmp_path / "slurm", seed=7)
    for key, value in imitation.environment.items():
        monkeypatch.setenv(key, value)
    return imitation


@pytest.fixture
def out(tmp_path):
    return tmp_path / "out"


def data_stage(number: int) -> Stage:
    return Stage(slug="data", fields=DataFields(data=DataSpec(worlds=WorldSpec(seed=number, count=2))), parents={})


def jobs_of(count, gpus=1):
    """A stage that all others wait for, and the others."""
    first = data_stage(0)
    fields = [VAEFields(vae=VAE_PRESETS["tiny"], train=VAETrainSpec(seed=seed)) for seed in range(count)]
    others = [Stage(slug="vae", fields=one, parents={"data": first.id}) for one in fields]
    return [Job(first, 0, 0.1, 0.0), *(Job(stage, gpus, 0.5, 0.5 * gpus) for stage in others)]


def launcher(out, clock=time.time, *, patience=3600.0, answer=20.0, sleep=None, **changes):
    cluster = load_cluster("testbed").model_copy(update=changes)
    scheduler = Scheduler(out / "slurm", clock=clock, patience=answer)
    wait = sleep or getattr(clock, "sleep", time.sleep)
    return Launcher(out, cluster, scheduler, sleep=wait, patience=patience)


def live_stages(slurm, out):
    """How often each stage is in the queue, by the paths in the pickles of live jobs."""
    found = Counter()
    for job in slurm.jobs():
        if job.state in ("PENDING", "RUNNING"):
            submitted = pickle.loads((Path(job.script).parent / f"{job.index}.pkl").read_bytes())  # our own
            found[Path(submitted.args[0]).name] += 1
    return found


def expected(jobs, out):
    """Every stage once, and what goes on with the sweep: when they have ended, and every hour."""
    return Counter({**{job.stage.id: 1 for job in jobs}, out.name: 2})


def test_arrays_are_cut_ordered_and_throttled(slurm, out, clock):
    jobs = jobs_of(60, gpus=2)
    launcher(out, clock).submit("s", jobs, print)
    assert live_stages(slurm, out) == expected(jobs, out)
    arrays = {}
    for job in slurm.jobs():
        arrays.setdefault(job.array, []).append(job)
    patrol, first, *middle, last = arrays.values()
    assert [len(array) for array in middle] == [17, 17, 17, 9]
    assert all(array[0].after == (first[0].array,) for array in middle)
    assert patrol[0].after == ()
    assert "#SBATCH --begin=now+60minutes" in script(patrol)
    assert set(last[0].after) == {first[0].array, *(array[0].array for array in middle)}
    throttles = [
        int(line.split("%")[1]) for array in middle for line in script(array).splitlines() if "--array" in line
    ]
    assert sum(throttles) * 2 == 16  # max_gpus


def script(array):
    return Path(array[0].script).read_text()


def test_more_arrays_than_jobs_may_run_take_turns(slurm, out, clock):
    """Four jobs of eight GPUs each on sixteen: two lanes."""
    jobs = jobs_of(60, gpus=8)
    launcher(out, clock, max_array_size=15).submit("s", jobs, print)
    arrays = {}
    for job in slurm.jobs():
        arrays.setdefault(job.array, []).append(job)
    _, first, one, two, three, four, _ = arrays.values()
    assert all("--array=0-14%1" in script(array) for array in (one, two, three, four))
    assert set(three[0].after) == {first[0].array, one[0].array}
    assert set(four[0].after) == {first[0].array, two[0].array}


def test_submitted_again_nothing_is_submitted(slurm, out, clock):
    jobs = jobs_of(20)
    launcher(out, clock).submit("s", jobs, print)
    again = launcher(out, clock).submit("s", jobs, print)
    assert again.submitted == []
    assert len(again.busy) == 21
    assert len(slurm.calls("sbatch")) == 5


def test_what_left_the_queue_unfinished_is_submitted_again_and_what_is_complete_is_not(slurm, out, clock):
    jobs = jobs_of(3)
    launcher(out, clock).submit("s", jobs, print)
    slurm.start("2_0")
    slurm.finish("2_0")
    StageFolder(out / "runs" / jobs[0].stage.id).finish()
    for index in range(3):
        slurm.start(f"3_{index}")
    slurm.finish("3_0")
    StageFolder(out / "runs" / jobs[1].stage.id).finish()
    slurm.fail("3_1")
    clock.sleep(60)
    again = launcher(out, clock).submit("s", jobs, print)
    assert [one.stages for one in again.submitted if not one.is_steering] == [(jobs[2].stage.id,)]


def test_what_submitit_pickles_is_a_function_and_a_path(slurm, out, clock):
    jobs = jobs_of(1)
    launcher(out, clock).submit("s", jobs, print)
    folder = Path(slurm.jobs()[2].script).parent
    submitted = pickle.loads((folder / "0.pkl").read_bytes())
    assert (submitted.function, submitted.args, submitted.kwargs) == (work, (str(out / "runs" / jobs[1].stage.id),), {})
    assert (folder / "0.pkl").stat().st_size < 500
    assert folder.stat().st_mode & 0o077 == 0


def test_a_dry_run_submits_and_writes_nothing(slurm, out, clock):
    done = launcher(out, clock).submit("s", jobs_of(20), print, dry_run=True)
    assert len(done.scripts) == 5
    assert "#SBATCH --array=0-16%" in done.scripts[2]
    assert "#SBATCH --gpus-per-node=h100:1" in done.scripts[2]
    assert not slurm.calls("sbatch")
    assert not out.exists()


# money


def test_a_budget_is_kept(slurm, out, clock):
    jobs = jobs_of(10)
    with pytest.raises(UserError, match=r"--budget-gpu-hours is 4, but 0 are spent, 0 promised .* add 5"):
        launcher(out, clock).submit("s", jobs, print, limit=4)
    assert not slurm.calls("sbatch")
    launcher(out, clock).submit("s", jobs[:6], print, limit=4)
    with pytest.raises(UserError, match=r"2.5 promised to queued jobs, and this would add 2.5"):
        launcher(out, clock).submit("s", jobs, print, limit=4)
    ledger = [json.loads(line) for line in (out / "slurm" / "ledger.jsonl").read_text().splitlines()]
    assert [(row["stages"], row["gpu_hours"], row["limit"]) for row in ledger] == [(1, 0, 4), (5, 2.5, 4)]


def test_what_was_spent_counts_against_the_budget(slurm, out, clock):
    jobs = jobs_of(2, gpus=4)
    folder = StageFolder.create(out / "runs", jobs[1].stage)
    folder.claim_attempt("1_0.0", gpus=4).log(done=1, total=2)
    log = folder.path / "events.0001.jsonl"
    log.write_text(json.dumps({"done": 1, "total": 2, "seconds": 1800.0}) + "\n")
    with pytest.raises(UserError, match=r"2 are spent, 0 promised to queued jobs, and this would add 4"):
        launcher(out, clock).submit("s", jobs, print, limit=5)


# faults


LAUNCH = """
import sys
from pathlib import Path
sys.path.insert(0, {root!r})
from tests.test_submit import jobs_of, launcher
launcher(Path(sys.argv[1])).submit("s", jobs_of(int(sys.argv[2])), print)
"""


def start_launcher(out, count):
    command = [sys.executable, "-c", LAUNCH.format(root=str(ROOT)), str(out), str(count)]
    return subprocess.Popen(command, start_new_session=True, stderr=subprocess.PIPE, cwd=ROOT)


def test_sixteen_launchers_of_one_plan_start_no_run_twice(slurm, out):
    launchers = [start_launcher(out, 100) for _ in range(16)]
    for process in launchers:
        _, said = process.communicate(timeout=120)
        assert process.returncode == 0, said.decode()
    assert live_stages(slurm, out) == expected(jobs_of(100), out)
    assert len(slurm.calls("sbatch")) == 1 + 6 + 2


@pytest.mark.parametrize("seed", range(5))
def test_a_fifth_of_submissions_fails_or_loses_its_answer(tmp_path, monkeypatch, clock, seed):
    imitation = Imitation(tmp_path / "slurm", seed=seed)
    monkeypatch.setenv("PATH", imitation.environment["PATH"])
    imitation.set(sbatch_refuses=0.1, sbatch_loses_answer=0.1)
    out, jobs = tmp_path / "out", jobs_of(100)
    launcher(out, clock, max_array_size=4).submit("s", jobs, print)
    assert any(call.code for call in imitation.calls("sbatch"))
    assert live_stages(imitation, out) == expected(jobs, out)
    assert launcher(out, clock, max_array_size=4).submit("s", jobs, print).submitted == []


def test_a_submission_that_hangs_after_it_was_taken_is_adopted(slurm, out, clock):
    slurm.set(sbatch_hangs=1.0, hang_seconds=30.0)
    jobs = jobs_of(1)
    clock.alarms.append((clock.now + 1, lambda: slurm.set(sbatch_hangs=0.0)))
    launcher(out, clock, answer=1.5).submit("s", jobs, print)
    assert live_stages(slurm, out) == expected(jobs, out)
    assert all(one.job for one in Submissions(out).all())


@pytest.mark.parametrize("taken", [True, False])
def test_a_launcher_that_is_killed_over_a_submission_leaves_nothing_double(slurm, out, clock, taken):
    """Killed while sbatch has not answered: the array may have been taken, or not."""
    slurm.set(sbatch_hangs=1.0, hang_seconds=120.0) if taken else slurm.set(down=True)
    process = start_launcher(out, 5)
    end = time.monotonic() + 60
    while not (slurm.jobs() if taken else slurm.calls("sbatch")):
        assert process.poll() is None, process.stderr.read().decode()
        assert time.monotonic() < end
        time.sleep(0.02)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    slurm.set(sbatch_hangs=0.0, down=False)
    clock.now = time.time() + 3600
    launcher(out, clock).submit("s", jobs_of(5), print)
    assert live_stages(slurm, out) == expected(jobs_of(5), out)


def test_an_array_that_is_taken_a_second_time_is_cancelled(slurm, out, clock):
    """The scheduler takes a submission long after it was given up, and submitted again."""
    jobs = jobs_of(1)
    launcher(out, clock).submit("s", jobs, print)
    _, _, mine, _ = slurm.jobs()
    subprocess.run(["sbatch", "--parsable", mine.script], check=True, capture_output=True)
    assert live_stages(slurm, out)[jobs[1].stage.id] == 2
    launcher(out, clock).submit("s", jobs, print)
    assert live_stages(slurm, out) == expected(jobs, out)


def test_a_queue_that_is_empty_by_mistake_makes_no_doubles(slurm, out, clock):
    jobs = jobs_of(5)
    launcher(out, clock).submit("s", jobs, print)
    with slurm.having(squeue_lies_empty=True):
        assert launcher(out, clock).submit("s", jobs, print).submitted == []
    assert live_stages(slurm, out) == expected(jobs, out)


def test_ten_minutes_without_a_scheduler_are_no_storm_and_everything_follows(slurm, out, clock):
    slurm.set(down=True)
    clock.alarms.append((clock.now + 600, lambda: slurm.set(down=False)))
    jobs = jobs_of(40)
    launcher(out, clock).submit("s", jobs, print)
    assert live_stages(slurm, out) == expected(jobs, out)
    failed = [call for call in slurm.calls() if call.code]
    assert FAILURES <= len(failed) <= 10
    assert [call.command[0] for call in failed].count("sbatch") == 1  # after that, it is looked for


def test_the_breaker_is_shared_by_all_processes(slurm, out, clock):
    """While it is open, nobody calls."""
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


def test_a_scheduler_that_stays_away_is_given_up_in_the_end(slurm, out, clock):
    slurm.set(down=True)
    with pytest.raises(SchedulerDownError, match="does not answer"):
        launcher(out, clock, patience=900).submit("s", jobs_of(3), print)
    assert clock.now <= 1_800_000_000 + 900


def test_a_refusal_is_passed_on_and_leaves_no_trace(slurm, out, clock):
    with pytest.raises(UserError, match="invalid partition"):
        launcher(out, clock, partition="nowhere").submit("s", jobs_of(3), print)
    assert Submissions(out).all() == []
    assert live_stages(slurm, out) == {}


class FullScheduler(Scheduler):
    """Takes so many jobs, as a limit of the account may have it."""

    room = 0

    def submit(self, script):
        size = next(
            int(line.split("-")[-1].split("%")[0]) for line in script.read_text().splitlines() if "--array" in line
        )
        if size >= self.room:
            raise FullError("Job violates accounting/QOS policy (job submit limit, user's size and/or time limits)")
        self.room -= size + 1
        return super().submit(script)


def test_where_no_more_jobs_are_taken_the_patrol_is_there_to_go_on(slurm, out, clock):
    jobs = jobs_of(40)
    one = launcher(out, clock)
    one.scheduler = one.patience.scheduler = FullScheduler(out / "slurm", clock=clock)
    one.scheduler.room = 1 + 1 + 17
    done = one.submit("s", jobs, print)
    assert "job submit limit" in done.full
    assert [len(each.stages) for each in done.submitted] == [1, 1, 17]
    assert live_stages(slurm, out)[out.name] == 1
    launcher(out, clock).submit("s", jobs, print)
    assert live_stages(slurm, out) == expected(jobs, out)


def test_an_array_that_would_never_be_taken_is_the_users_to_mend(slurm, out, clock):
    one = launcher(out, clock)
    one.scheduler = one.patience.scheduler = FullScheduler(out / "slurm", clock=clock)
    one.scheduler.room = 3
    StageFolder.create(out / "runs", jobs_of(9)[0].stage).finish()
    with pytest.raises(UserError, match=r"takes no array of 9 jobs .* give a smaller max_array_size"):
        one.submit("s", jobs_of(9), print)


def test_jobs_that_never_begin_to_work_are_not_submitted_for_ever(slurm, out, clock):
    """A Python that is not there: every job ends with 127."""
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
    assert tried == SILENT
    assert "ended before they began to work" in done.blocked[jobs[1].id]


# the command line


def submit(out, *options, sweep="tiny"):
    return main(["submit", sweep, "--cluster", "testbed", "--out", str(out), *options])


def test_a_budget_stays_until_another_is_given(slurm, out, capsys):
    assert submit(out, "--budget-gpu-hours", "5") == 0
    assert submit(out) == 0
    assert request.load(out).budget_gpu_hours == 5
    before = len(slurm.jobs())
    assert submit(out, "--budget-gpu-hours", "0.00001") == 2
    assert request.load(out).budget_gpu_hours == 5
    assert len(slurm.jobs()) == before
    for wrong in ("0", "nan", "inf"):
        assert submit(out, "--budget-gpu-hours", wrong) == 2
    capsys.readouterr()


def test_one_folder_is_of_one_sweep(slurm, out, capsys):
    assert submit(out) == 0
    assert submit(out, sweep="native") == 2
    assert "the sweep tiny was submitted from here" in capsys.readouterr().err


def test_a_dry_run_changes_no_document(slurm, out, capsys):
    out.mkdir()
    for name in ("tuning.json", "outcome.json"):
        (out / name).write_text("{}")
    assert submit(out, "--dry-run", "--json") == 0
    assert len(json.loads(capsys.readouterr().out)["scripts"]) == 7
    assert sorted(path.name for path in out.iterdir()) == ["outcome.json", "tuning.json"]


def test_cancel_means_what_it_names(slurm, out, capsys):
    assert submit(out) == 0
    assert main(["cancel", str(out), ""]) == 2
    assert main(["cancel", str(out), "dit"]) == 2
    before = live_stages(slurm, out)
    assert main(["cancel", str(out), "dit-w32d2@4x"]) == 0
    assert "1 stages cancelled, 1 jobs taken" in capsys.readouterr().out
    (gone,) = before - live_stages(slurm, out)
    assert gone.startswith("dit-w32d2")
    assert main(["cancel", str(out)]) == 0
    assert live_stages(slurm, out) == {}


def test_the_steering_job_outlives_a_full_disk(monkeypatch, out):
    def full(*arguments, **options):
        raise NoSpaceError("no space left on the device")

    monkeypatch.setattr(steering, "advance", full)
    monkeypatch.setattr(steering, "DISK_SECONDS", 0.0)
    monkeypatch.setattr(steering.requests, "load", lambda out: None)
    assert steering._carried_on(out) == (AGAIN, "no space left on the device; trying again")


# who looks


def test_ten_onlookers_ask_the_scheduler_once_in_thirty_seconds(slurm, out, clock):
    jobs = jobs_of(3)
    launcher(out, clock).submit("s", jobs, print)
    before = len(slurm.calls())
    for _ in range(10):
        view = look(out / "slurm", Scheduler(out / "slurm", clock=clock), lambda view: [])
        clock.sleep(QUERY_SECONDS / 10 - 0.1)
    assert len(slurm.calls()) == before + 1
    assert len(view.queue) == 6


def test_who_cannot_write_asks_no_more_often(slurm, out, clock, monkeypatch):
    launcher(out, clock).submit("s", jobs_of(1), print)

    def full(path, document):
        raise NoSpaceError("no space left on the device")

    monkeypatch.setattr("slurm.queue_cache.write_document", full)
    before = len(slurm.calls())
    for _ in range(5):
        look(out / "slurm", Scheduler(out / "slurm", clock=clock), lambda view: [])
        clock.sleep(QUERY_SECONDS / 10)
    assert len(slurm.calls()) == before + 1


@pytest.mark.parametrize("accounting", [True, False])
def test_accounting_is_asked_after_the_queue_and_missed_where_there_is_none(tmp_path, monkeypatch, clock, accounting):
    imitation = Imitation(tmp_path / "slurm", accounting=accounting)
    monkeypatch.setenv("PATH", imitation.environment["PATH"])
    out = tmp_path / "out"
    launcher(out, clock).submit("s", jobs_of(1), print)
    imitation.start("1_0")
    imitation.fail("1_0", "NODE_FAIL")
    for _ in range(4):
        view = look(out / "slurm", Scheduler(out / "slurm", clock=clock), lambda view: ["1"])
        clock.sleep(QUERY_SECONDS)
    assert view.ended == ({"1_0": "NODE_FAIL"} if accounting else {})
    assert len(imitation.calls("sacct")) == 1
    assert not view.problem
