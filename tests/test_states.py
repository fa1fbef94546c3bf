"""The states that `scaling status` derives from files and from what the scheduler last said."""

import json
import os
import time
from pathlib import Path

import pytest

from scaling.cli.main import main
from scaling.core.attempts import attempts
from scaling.core.records import RunRecord, write_record
from scaling.core.specs import DataSpec, WorldSpec
from scaling.core.stage import DataFields, Stage, StageFolder
from slurm import request
from slurm.cluster import load_cluster
from slurm.queue_cache import View
from slurm.request import Request
from slurm.states import STATES, statuses
from slurm.submissions import STEERING, Submission, Submissions
from slurm.worker import cancel_mark
from sweeps.load import load_sweep

SEEN = 2_000_000_000.0
"""When squeue answered: after everything that the tests write."""
FAILED = {"error": "ValueError: the words\nat the end", "mendable": False, "out_of_memory": False}
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
    """A stage with attempts that said these things, the first of which was job 5_<number>.0."""
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


def look(out, folders, queue, *, steering=False, ended=None, seen=SEEN, job="5"):
    """The state of the first folder, whose array has an index for each of them."""
    names = tuple(folder.path.name for folder in folders)
    hours = (0.1,) * len(names)
    known = [Submission(name="s-1", stages=names, gpus=2, gpu_hours=hours, at=1_000.0, job=job)]
    if steering:
        known.append(Submission(name="s-2", stages=(STEERING,), gpus=0, gpu_hours=(0.0,), at=1_000.0, job="6"))
        queue = {**queue, "6_0": ("PENDING", "Dependency")}
    view = View(age=1.0, seen=seen, queue=queue, ended=ended or {})
    found = {status.id: status for status in statuses(out, known, view, time.time())}
    return found[folders[0].path.name]


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
        ("failed", [[{"error": "lower it", "mendable": True}]], {}, "lower it"),
        ("lost", [], {}, "left the queue"),
        ("lost", [TRAINING], {}, "silent"),
    ],
)
def test_states_of_a_stage_that_was_submitted(out, state, logs, queue, words):
    found = look(out, [add(out, 0, *logs)], queue)
    assert (found.state, words in found.note) == (state, True), found.note


def test_what_is_running_says_how_fast(out):
    found = look(out, [add(out, 0, TRAINING)], {"5_0": RUNNING})
    assert (found.step, found.total, found.loss) == (6, 10, 0.5)
    assert found.tokens_per_second == pytest.approx(200)  # four updates in two seconds
    assert found.mfu == pytest.approx(0.2)
    assert found.eta_seconds == pytest.approx(2)
    assert found.gpu_hours == pytest.approx(2 * 4 / 3600)
    assert found.job == "5_0"


def test_what_says_nothing_for_long_is_stalled(out):
    folder = add(out, 0, TRAINING)
    os.utime(folder.path / "events.0001.jsonl", (time.time() - 3600,) * 2)
    assert look(out, [folder], {"5_0": RUNNING}).state == "stalled"


def test_files_know_better_than_an_old_answer(out):
    """The queue was looked at before the attempt began, or before it was stopped."""
    assert look(out, [add(out, 0, TRAINING)], {"5_0": PENDING}, seen=2_000.0).state == "running"
    assert look(out, [add(out, 1, [STOPPED])], {"5_0": RUNNING}, seen=2_000.0).state == "preempted"


def test_complete_is_complete_whatever_the_queue_says(out):
    record = RunRecord(run_id="x", stage="dit")
    assert look(out, [add(out, 0, complete=record)], {"5_0": RUNNING}).state == "done"
    diverged = record.model_copy(update={"diverged_at": 7})
    found = look(out, [add(out, 1, complete=diverged)], {})
    assert (found.state, "after 7 updates" in found.note) == ("diverged", True)


def test_what_was_never_submitted_is_planned_and_children_wait(out):
    parent = add(out, 0)
    child = add(out, 1, parents={"data": parent.path.name})
    found = look(out, [child], {})
    assert (found.state, found.note) == ("planned", f"waits for {parent.path.name}")
    other = {status.id: status for status in statuses(out, [], View(1.0, SEEN), time.time())}
    assert other[parent.path.name].state == "planned"


def test_a_steering_job_makes_the_lost_be_tried_again(out):
    folder = add(out, 0)
    assert look(out, [folder], {}, steering=True).state == "retrying"


def test_accounting_says_why(out):
    assert look(out, [add(out, 0)], {}, ended={"5_0": "NODE_FAIL"}).note == "NODE_FAIL"


def test_cancelled_is_cancelled_at_once(out):
    folder = add(out, 0, TRAINING)
    cancel_mark(folder).touch()
    assert look(out, [folder], {"5_0": RUNNING}).state == "cancelled"


def test_work_on_this_machine_needs_no_scheduler(out):
    folder = add(out, 0, TRAINING)
    status = statuses(out, [], View(age=float("inf"), seen=0.0), time.time())[0]
    assert status.state == "lost"
    with folder.exclusive():
        assert statuses(out, [], View(age=float("inf"), seen=0.0), time.time())[0].state == "running"


def test_every_state_is_in_the_documentation():
    page = (Path(__file__).parents[1] / "docs" / "cluster.md").read_text()
    assert all(f"`{state}`" in page for state in STATES)


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
def test_what_somebody_else_asked_for_is_not_done_in_our_name(out, capsys):
    """A request holds shell lines, which jobs run."""
    asked = Request(sweep=load_sweep("tiny"), cluster=load_cluster("testbed"), command="scaling submit tiny")
    request.save(out, asked)
    os.chown(out / "slurm" / "request.json", 12345, 12345)
    add(out, 0)
    assert main(["status", str(out)]) == 0
    capsys.readouterr()
    assert main(["retry", str(out)]) == 2
    assert "request.json: belongs to another user" in capsys.readouterr().err


def test_a_damaged_document_is_named(out, capsys):
    folder = add(out, 0, [STOPPED])
    submissions = Submissions(out)
    submissions.write(Submission(name="s-1", stages=(folder.path.name,), gpus=1, gpu_hours=(0.1,), at=1.0, job="5"))
    path = out / "slurm" / "submissions" / "s-1.json"
    path.write_text(path.read_text().replace('"gpus": 1', '"gpus": "many"'))
    assert main(["status", str(out)]) == 2
    said = capsys.readouterr().err
    assert "s-1.json" in said
    assert "gpus" in said
    assert attempts(folder)
