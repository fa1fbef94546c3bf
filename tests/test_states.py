"""The states that `scaling status` derives from files and from what the scheduler last said."""

import json
import os
import time
from pathlib import Path
from typing import get_args

import pytest

from scaling.cli.main import main
from scaling.core.attempts import attempts
from scaling.core.records import RunRecord, write_record
from scaling.core.specs import DataSpec, WorldSpec
from scaling.core.stage import Stage
from scaling.core.stage_fields import DataFields
from scaling.core.stage_folder import StageFolder
from scaling.core.store import read_document, write_document
from slurm import request
from slurm.cancellation import cancel_mark
from slurm.cluster import load_cluster
from slurm.outstanding import left_unfinished
from slurm.queue_cache import QueueView
from slurm.request import Request
from slurm.stage_status import statuses
from slurm.states import State
from slurm.submissions import Submission, Submissions
from sweeps.load import load_sweep

SEEN = 2_000_000_000.0
"""When squeue answered: after everything that the tests write."""
FAILED = {"error": "ValueError: the words\nat the end", "user_error": False, "out_of_memory": False}
STOPPED = {"stopped": "stopped after 3 of 9 updates", "out_of_time": False}
TRAINING = [
    {"update_tokens": 100.0, "update_flops": 1e9, "peak_flops": 1e10},
    {"done": 2, "total": 10, "loss": 0.9, "begun": 0, "saved": 2},
    {"done": 6, "total": 10, "loss": 0.5, "begun": 0, "saved": 2},
]


@pytest.fixture
def out(tmp_path):
    return tmp_path / "out"


def add(out, number, *logs, complete=None, parents=None, kind="data"):
    """A stage with attempts that logged these events; the first attempt was job 5_<number>.0."""
    fields = DataFields(data=DataSpec(worlds=WorldSpec(seed=number, count=2)))
    stage = Stage(slug=f"stage-{number}", fields=fields, parents=parents or {}, multiple=4)
    folder = StageFolder.create(out / "runs", stage)
    for restarts, rows in enumerate(logs):
        events = folder.claim_attempt(f"5_{number}.{restarts}", gpus=2)
        for seconds, row in enumerate(rows):
            with open(events.path, "a") as file:
                file.write(json.dumps({**row, "seconds": 2.0 * seconds}) + "\n")
    if complete is not None:
        write_record(folder.record_path, complete)
        folder.finish()
    return folder


def submission_of(*stages, **changes):
    """An array of these stages that was accepted as number 5, or one with other fields."""
    fields = {"name": "s-1", "role": "stages", "stages": stages, "gpus": 2, "gpu_hours": (0.1,) * len(stages)}
    return Submission(**{**fields, "at": 1_000.0, "answer": "accepted", "array": "5", **changes})


def status_of(out, folders, queue, *, controller=False, ended=None, seen=SEEN, **changes):
    """The status of the first folder, whose array has an index for each of them."""
    known = [submission_of(*(folder.path.name for folder in folders), **changes)]
    if controller:
        known.append(submission_of(name="s-2", role="controller", gpus=0, array="6"))
        queue = {**queue, "6_0": ("PENDING", "Dependency")}
    view = QueueView(age=1.0, seen=seen, queue=queue, ended=ended or {})
    by_id = {status.id: status for status in statuses(out, known, view, time.time())}
    return by_id[folders[0].path.name]


PENDING, RUNNING = ("PENDING", "Priority"), ("RUNNING", "None")


@pytest.mark.parametrize(
    ("state", "logs", "queue", "words"),
    [
        ("queued", [], {"5_0": PENDING}, "Priority"),
        ("running", [], {"5_0": RUNNING}, "starting"),
        ("running", [TRAINING], {"5_0": RUNNING}, ""),
        ("running", [[STOPPED]], {"5_0": RUNNING}, "starting"),
        ("preempted", [[STOPPED]], {"5_0": PENDING}, "stopped after 3 of 9"),
        ("preempted", [TRAINING], {"5_0": PENDING}, "killed"),
        ("retrying", [[FAILED]], {"5_0": PENDING}, "ValueError: the words"),
        ("retrying", [[FAILED | {"out_of_memory": True}]], {"5_0": PENDING}, "out of memory"),
        ("failed", [[FAILED], [FAILED]], {}, "at the end"),
        ("failed", [[{"error": "lower it", "user_error": True}]], {}, "lower it"),
        ("lost", [], {}, "left the queue"),
        ("lost", [TRAINING], {}, "silent"),
    ],
)
def test_states_of_a_stage_that_was_submitted(out, state, logs, queue, words):
    status = status_of(out, [add(out, 0, *logs)], queue)
    assert (status.state, words in status.note) == (state, True), status.note


def test_a_running_stage_has_a_speed(out):
    status = status_of(out, [add(out, 0, TRAINING)], {"5_0": RUNNING})
    assert (status.step, status.total, status.loss) == (6, 10, 0.5)
    assert status.tokens_per_second == pytest.approx(200)  # four updates in two seconds
    assert status.mfu == pytest.approx(0.2)
    assert status.eta_seconds == pytest.approx(2)
    assert status.gpu_hours == pytest.approx(2 * 4 / 3600)
    assert status.job == "5_0"


def test_a_run_without_events_for_long_is_stalled(out):
    folder = add(out, 0, TRAINING)
    os.utime(folder.path / "events.0001.jsonl", (time.time() - 3600,) * 2)
    assert status_of(out, [folder], {"5_0": RUNNING}).state == "stalled"


def test_files_count_more_than_an_old_answer(out):
    """The queue was read before the attempt started, or before it was stopped."""
    assert status_of(out, [add(out, 0, TRAINING)], {"5_0": PENDING}, seen=2_000.0).state == "running"
    assert status_of(out, [add(out, 1, [STOPPED])], {"5_0": RUNNING}, seen=2_000.0).state == "preempted"


def test_complete_is_complete_whatever_the_queue_says(out):
    record = RunRecord(run_id="x", stage="dit")
    assert status_of(out, [add(out, 0, complete=record)], {"5_0": RUNNING}).state == "done"
    diverged = record.replace(diverged_at=7)
    status = status_of(out, [add(out, 1, complete=diverged)], {})
    assert (status.state, "after 7 updates" in status.note) == ("diverged", True)


def test_what_was_never_submitted_is_planned_and_children_wait(out):
    parent = add(out, 0)
    child = add(out, 1, parents={"data": parent.path.name})
    status = status_of(out, [child], {})
    assert (status.state, status.note) == ("planned", f"waits for {parent.path.name}")
    other = {status.id: status for status in statuses(out, [], QueueView(1.0, SEEN), time.time())}
    assert other[parent.path.name].state == "planned"


def test_a_controller_job_lets_a_lost_stage_be_tried_again(out):
    folder = add(out, 0)
    assert status_of(out, [folder], {}, controller=True).state == "retrying"


def test_an_array_that_the_scheduler_never_accepted_has_no_job(out):
    folder = add(out, 0)
    never = {"answer": "never", "array": None}
    status = status_of(out, [folder], {}, **never)
    assert (status.state, status.job, "never accepted" in status.note) == ("lost", "", True)
    assert status_of(out, [folder], {}, controller=True, **never).state == "retrying"
    assert left_unfinished(out, [submission_of(folder.path.name, **never)], QueueView(1.0, SEEN)) == []
    assert left_unfinished(out, [submission_of(folder.path.name)], QueueView(1.0, SEEN)) == ["5"]


@pytest.mark.parametrize(
    "wrong",
    [
        {"role": "controller"},
        {"stages": (), "gpu_hours": ()},
        {"gpu_hours": (0.1, 0.1)},
        {"array": None},
        {"answer": "pending"},
    ],
)
def test_a_submission_cannot_contradict_itself(wrong):
    with pytest.raises(ValueError, match=r"role|answer"):
        submission_of("stage-0", **wrong)


def test_stages_are_ordered_by_parents_then_budget(out):
    """By the number in the spec, not by its label."""
    parent = add(out, 9)
    for number, multiple in ((1, 32), (2, 4), (3, None)):
        folder = add(out, number, parents={"data": parent.path.name}, kind="data")
        spec = read_document(folder.spec_path)
        write_document(folder.spec_path, {**spec, "multiple": multiple})
    order = [status.slug for status in statuses(out, [], QueueView(1.0, SEEN), time.time())]
    assert order == ["stage-9", "stage-3", "stage-2", "stage-1"]


def test_accounting_says_why(out):
    assert status_of(out, [add(out, 0)], {}, ended={"5_0": "NODE_FAIL"}).note == "NODE_FAIL"


def test_cancelled_is_cancelled_at_once(out):
    folder = add(out, 0, TRAINING)
    cancel_mark(folder).touch()
    assert status_of(out, [folder], {"5_0": RUNNING}).state == "cancelled"


def test_work_on_this_machine_needs_no_scheduler(out):
    folder = add(out, 0, TRAINING)
    status = statuses(out, [], QueueView(age=float("inf"), seen=0.0), time.time())[0]
    assert status.state == "lost"
    with folder.exclusive():
        assert statuses(out, [], QueueView(age=float("inf"), seen=0.0), time.time())[0].state == "running"


def test_every_state_is_in_the_documentation():
    page = (Path(__file__).parents[1] / "docs" / "cluster.md").read_text()
    assert all(f"`{state}`" in page for state in get_args(State))


def test_the_commands_work_on_a_folder_without_a_scheduler(out, capsys):
    add(out, 0, [FAILED], [FAILED])
    add(out, 1, complete=RunRecord(run_id="x", stage="data"))
    assert main(["status", str(out)]) == 0
    text = capsys.readouterr().out
    assert "stage-0           4x       failed" in text
    assert "at the end" in text
    assert "2 stages: 1 failed, 1 done" in text or "2 stages: 1 done, 1 failed" in text
    assert main(["logs", str(out), "stage-0"]) == 0
    assert "ValueError: the words" in capsys.readouterr().out
    for verb in (["cancel", str(out)], ["retry", str(out)]):
        assert main(verb) == 2
        assert "nothing was submitted from here" in capsys.readouterr().err
    assert main(["logs", str(out), "nobody"]) == 2
    assert "no stage 'nobody'" in capsys.readouterr().err
    assert main(["status", str(out / "nowhere")]) == 2


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files away")
def test_the_request_of_another_user_is_refused(out, capsys):
    """A request holds shell lines, which jobs run."""
    other_users = Request(sweep=load_sweep("tiny"), cluster=load_cluster("testbed"), command="scaling submit tiny")
    request.save(out, other_users)
    os.chown(out / "slurm" / "request.json", 12345, 12345)
    add(out, 0)
    assert main(["status", str(out)]) == 0
    capsys.readouterr()
    assert main(["retry", str(out)]) == 2
    assert "request.json: belongs to another user" in capsys.readouterr().err


def test_a_damaged_document_is_named(out, capsys):
    folder = add(out, 0, [STOPPED])
    submissions = Submissions(out)
    submissions.write(submission_of(folder.path.name, gpus=1))
    path = out / "slurm" / "submissions" / "s-1.json"
    path.write_text(path.read_text().replace('"gpus": 1', '"gpus": "many"'))
    assert main(["status", str(out)]) == 2
    stderr = capsys.readouterr().err
    assert "s-1.json" in stderr
    assert "gpus" in stderr
    assert attempts(folder)
