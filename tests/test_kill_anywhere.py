"""A training stage that is killed at any point, any number of times, ends with the same record and the same bits as one
that was never killed. How it is killed is in `tests.killed_rounds`."""

import json
import os
import random
import subprocess
import sys
from pathlib import Path

import pytest

SEED = 20
KILLED_ROUNDS = 30
DEATHS = (-9, 85)
"""How the workers that do not finish end here: by SIGKILL, or with the exit code that asks for another attempt."""

DAMAGED = [
    [{"call": 8}, {"damage": "attempts"}],
    [{"save": 3, "phase": 2}, {"damage": "attempts"}, {"damage": "events"}],
    [{"save": 4, "phase": 2}, {"damage": "weights"}],
    [{"save": 4, "phase": 2}, {"damage": "manifest"}],
    [{"save": 7, "phase": 2}, {"damage": "record"}],
    # All checkpoints: those that are saved after that must not be taken for older than the damaged ones.
    [{"save": 6, "phase": 2}, {"damage": "checkpoints"}, {"save": 4, "phase": 2}],
]


class Rounds:
    """The process that does the rounds, one after another."""

    def __init__(self, folder):
        environment = {
            **{key: value for key, value in os.environ.items() if not key.startswith("SLURM_")},
            "OMP_NUM_THREADS": "1",
            "CUDA_VISIBLE_DEVICES": "",
        }
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tests.killed_rounds", str(folder)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            cwd=Path(__file__).parents[1],
            env=environment,
            text=True,
        )

    def do(self, faults):
        self.process.stdin.write(json.dumps(faults) + "\n")
        self.process.stdin.flush()
        answer = self.process.stdout.readline()
        assert answer, "the process that does the rounds has ended"
        return json.loads(answer)


@pytest.fixture(scope="module")
def rounds(tmp_path_factory):
    made = Rounds(tmp_path_factory.mktemp("rounds"))
    yield made
    made.process.stdin.close()
    made.process.wait()


@pytest.fixture(scope="module")
def undisturbed(rounds):
    """The result of a stage that is not disturbed, and its calls."""
    result = rounds.do([])
    assert (result["ends"], result["attempts"], result["lost"]) == ([0], ["finished"], []), result
    assert len(result["hashes"]) == 3, "the model and two videos"
    return result


@pytest.fixture(scope="module")
def phases(undisturbed):
    """The calls of the third save, which is the first that removes an old checkpoint. The last call is the event that
    reports it."""
    labels = [label for save, _, label in undisturbed["struck"][0] if save == 3]
    return labels[: labels.index("half events.0001.jsonl") + 1]


def check(result, undisturbed, faults):
    """Finished once and with the same bits; no checkpoint was lost, and no temporary file is left."""
    about = json.dumps({"faults": faults, **result})
    assert result["complete"], about
    assert result["record"] == undisturbed["record"], about
    assert result["hashes"] == undisturbed["hashes"], about
    assert result["left"] == [], about
    assert result["lost"] == [], about
    # After a kill between COMPLETE and the last event, no attempt says that it has finished.
    finished = [end for end in result["attempts"] if end == "finished"]
    killed_before_last_event = result["ends"][-1] != 0
    assert finished == ([] if killed_before_last_event else ["finished"]), about
    assert result["attempts"][-1] == ("silent" if killed_before_last_event else "finished"), about
    assert (result["again"], result["started_again"]) == (0, 0), about
    assert all(end in DEATHS for end in result["ends"][:-1]), about


def test_killed_in_every_phase_of_saving_a_checkpoint(rounds, undisturbed, phases):
    kinds = {label.split()[0] for label in phases}
    assert kinds == {"mkdir", "write", "half", "open", "fsync", "replace", "unlink", "rmdir"}
    todo, done = list(range(len(phases))), 0
    while todo:
        # later attempts find two checkpoints, so that their second save removes one
        faults = [{"save": 3 if number == 0 else 2, "phase": phase} for number, phase in enumerate(todo[:3])]
        result = rounds.do(faults)
        assert result["ends"] == [-9] * len(faults) + [0], json.dumps({"faults": faults, **result})
        check(result, undisturbed, faults)
        todo, done = todo[3:], done + 1
    assert done < KILLED_ROUNDS


def test_killed_anywhere(rounds, undisturbed, phases):
    numbers = random.Random(SEED)
    calls = len(undisturbed["struck"][0])
    for number in range(KILLED_ROUNDS - -(-len(phases) // 3)):
        kills = [{"call": numbers.randrange(calls)} for _ in range(numbers.choice((1, 1, 2, 3)))]
        faults = [{"seconds": numbers.uniform(0.0, 0.5)}] if number % 3 == 2 else kills
        check(rounds.do(faults), undisturbed, faults)


def test_killed_at_the_very_end(rounds, undisturbed):
    """Between the record and the last event."""
    labels = [label for _, _, label in undisturbed["struck"][0]]
    for label in ("half <record.json>", "replace <record.json>", "write <COMPLETE>", "replace <COMPLETE>"):
        faults = [{"call": labels.index(label)}]
        check(rounds.do(faults), undisturbed, faults)
    for last in (1, 2):
        faults = [{"call": len(labels) - last}]
        assert labels[-last].endswith("events.0001.jsonl")
        result = rounds.do(faults)
        check(result, undisturbed, faults)
        assert result["ends"] == [-9], "COMPLETE was there"


@pytest.mark.parametrize("name", ["SIGTERM", "SIGUSR2"])
def test_asked_to_stop_anywhere(rounds, undisturbed, name):
    numbers = random.Random(SEED)
    calls = len(undisturbed["struck"][0])
    stopped = 0
    for faults in (
        [{"loader": True, "signal": name}],
        [{"call": numbers.randrange(calls // 2), "signal": name} for _ in range(2)],
        [{"save": 2, "phase": numbers.randrange(20), "signal": name}, {"seconds": 0.2, "signal": name}],
        [{"call": numbers.randrange(calls // 2), "signal": name}, {"call": numbers.randrange(calls)}],
    ):
        result = rounds.do(faults)
        check(result, undisturbed, faults)
        stopped += result["attempts"].count("stopped")
    assert stopped >= 4


def test_lightning_does_not_handle_the_signal(rounds, undisturbed):
    """It would broadcast from inside its handler, and several ranks would end with exit code 0 and no message."""
    faults = [{"loader": True, "signal": "SIGTERM"}]
    result = rounds.do(faults)
    check(result, undisturbed, faults)
    assert result["ends"] == [85, 0]
    assert "Received SIGTERM" not in result["out"]


@pytest.mark.parametrize("faults", DAMAGED, ids=lambda faults: "-".join(f.get("damage", "killed") for f in faults))
def test_torn_files(rounds, undisturbed, faults):
    check(rounds.do(faults), undisturbed, faults)
