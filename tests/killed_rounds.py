"""Trains a tiny stage again and again, each time killed at another point: `python -m tests.killed_rounds FOLDER`.

Reads rounds from stdin and prints the result of each as JSON, which test_kill_anywhere.py checks. A process that has
imported everything forks a worker for each attempt. The worker counts the calls that change the stage's folder, and is
killed, or receives a signal, at a chosen call. The code under test is not changed for this.

A round is a list of faults, one for each attempt; later attempts are not disturbed until the stage is complete:
    {"save": 3, "phase": 7}     SIGKILL before the 7th call of the 3rd save of a checkpoint
    {"call": 40}                SIGKILL before the 40th call
    {"seconds": 0.2}            SIGKILL after this time
each with "signal" for another one than SIGKILL, and
    {"loader": true, ...}       a signal between the moment at which Lightning takes the handlers and the first update
    {"damage": "events"}        damage to the folder after an attempt was killed, in place of an attempt
A call that writes counts as two: before it, and when half is written.
"""

import hashlib
import json
import os
import re
import shutil
import signal
import sys
import time
import traceback
from pathlib import Path

import scaling.core.events
import scaling.stages.dit
from scaling.core.attempts import attempts
from scaling.core.stage_folder import StageFolder
from scaling.core.store import TEMPORARY, read_document, read_jsonl, temporary
from scaling.training import loop
from slurm import worker
from tests.tiny_run import make_run

MOST_ATTEMPTS = 10
WATCHED = ("open", "fsync", "replace", "mkdir", "unlink", "rmdir")
"""Functions of `os` that a save calls, besides writing."""


def prepare(runs, flop_budget=4e8):
    """Makes the stage's parents and its spec. Returns its id."""
    return make_run(runs, optimizer="muon", flop_budget=flop_budget, sample_at=(0.5, 1.0)).path.name


class Calls:
    """Counts the calls of this process that change a folder, and lets the fault happen at one of them."""

    def __init__(self, folder, fault, log):
        self.folder, self.fault, self.log = str(folder), fault, log
        self.count = self.saves = self.phase = 0
        self.saving = ""

    def watch(self):
        for name in WATCHED:
            setattr(os, name, self._watched(name, getattr(os, name)))
        Path.write_bytes = self._halved(Path.write_bytes, bytes)
        scaling.core.events.append_jsonl = self._halved(
            scaling.core.events.append_jsonl, lambda row: json.dumps(row).encode()
        )
        if "loader" in self.fault:
            length = loop.StepBatches.__len__
            loop.StepBatches.__len__ = lambda batches: (self._strike("loader"), length(batches))[1]

    def _watched(self, name, real):
        def call(target, *rest, **options):
            path = os.readlink(f"/proc/self/fd/{target}") if isinstance(target, int) else os.fspath(target)
            if "dir_fd" in options and options["dir_fd"] is not None:
                path = os.path.join(os.readlink(f"/proc/self/fd/{options['dir_fd']}"), path)
            self._happens(name, path)
            return real(target, *rest, **options)

        return call

    def _halved(self, real, content):
        def call(path, what):
            self._happens("write", str(path))
            if self._is_next(path):  # killed when half is written
                with open(path, "ab") as file:
                    full_content = content(what)
                    file.write(full_content[: len(full_content) // 2])
            self._happens("half", str(path))
            return real(path, what)

        return call

    def _is_next(self, path):
        if not str(path).startswith(self.folder) or "signal" in self.fault:
            return False
        save, phase = self.fault.get("save"), self.fault.get("phase")
        return self.fault.get("call") == self.count or (save == self.saves and phase == self.phase)

    def _happens(self, name, path):
        if not path.startswith(self.folder):
            return
        file_name = TEMPORARY.sub(r"<\1>", Path(path).name)
        if name == "mkdir" and file_name.startswith("<step-") and path != self.saving:
            self.saving, self.saves, self.phase = path, self.saves + 1, 0
        label = f"{name} {file_name}"
        if (self.fault.get("save") == self.saves and self.fault.get("phase") == self.phase) or self.fault.get(
            "call"
        ) == self.count:
            self._strike(label)
        self.count, self.phase = self.count + 1, self.phase + 1
        if not self.fault:
            self._note([self.saves, self.phase - 1, label])

    def _strike(self, label):
        self._note(label)
        os.kill(os.getpid(), getattr(signal, self.fault.get("signal", "SIGKILL")))

    def _note(self, what):
        with open(self.log, "a") as file:
            file.write(json.dumps(what) + "\n")


def attempt(folder, fault, number, log):
    """Runs one worker. Returns its exit code, as subprocess does, and the calls that it logged."""
    log.write_bytes(b"")
    pid = os.fork()
    if pid == 0:
        try:
            with open(log.with_suffix(".out"), "ab") as out:
                os.dup2(out.fileno(), 1)
                os.dup2(out.fileno(), 2)
            os.environ["SLURM_RESTART_COUNT"] = str(number)
            Calls(folder, fault, log).watch()
            worker.work(str(folder))
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(99)
    if "seconds" in fault:
        time.sleep(fault["seconds"])
        os.kill(pid, getattr(signal, fault.get("signal", "SIGKILL")))
    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    return code, [json.loads(line) for line in log.read_text().splitlines()]


def damage(folder, how):
    """Damages files as a crash of the machine may."""
    newest = sorted(folder.glob("checkpoints/step-*"))
    if how == "events":
        path = max(folder.glob("events.*.jsonl"))
        path.write_bytes(path.read_bytes()[:-9])
    elif how == "attempts":
        max(folder.glob("attempts/*.json")).write_bytes(b"")
    elif how == "record":
        temporary(folder / "record.json").write_bytes(b'{"run_id": "di')
        (folder / "record.json").write_bytes(b'{"run_id": "di')
    elif how == "weights":
        path = newest[-1] / "weights.safetensors"
        path.write_bytes(path.read_bytes()[:-100])
    elif how == "manifest":
        (newest[-1] / "manifest.json").write_bytes(b"")
    elif how == "checkpoints":
        for path in newest:
            (path / "muon.safetensors").unlink()
    else:
        raise ValueError(how)


def do_round(prepared, run_id, faults, where):
    """Kills a stage once for each fault, and then lets it finish."""
    runs = where / "runs"
    shutil.copytree(prepared, runs, symlinks=True)
    folder, ends, struck, saved, lost = StageFolder(runs / run_id), [], [], 0, []
    faults = list(faults)
    while not folder.complete and len(ends) < MOST_ATTEMPTS:
        fault = faults.pop(0) if faults else {}
        if "damage" in fault:
            damage(folder.path, fault["damage"])
            saved = 0
            continue
        code, what = attempt(folder.path, fault, len(ends), where / "calls")
        ends.append(code)
        struck.append(what)
        if code == worker.FAILED or code == 99:
            break
        if folder.attempts:
            rows = read_jsonl(folder.events_of_attempt().path)
            begun = [row["begun"] for row in rows if "begun" in row]
            lost += [saved - begun[0]] if begun and begun[0] < saved else []
            saved = max([saved, *(row["saved"] for row in rows if "saved" in row)])
    before = folder.attempts
    again = attempt(folder.path, {}, len(ends), where / "calls")[0]
    result = {
        "ends": ends,
        "struck": struck,
        "lost": lost,
        "complete": folder.complete,
        "again": again,
        "attempts": [past_attempt.end for past_attempt in attempts(folder)],
        "started_again": folder.attempts - before,
        "left": sorted(path.name for path in folder.path.rglob(".*")),
        "files": sorted(
            re.sub(r"\.\d{4}\.jsonl", "", str(path.relative_to(folder.path))) for path in folder.path.glob("*")
        ),
        "out": (where / "calls.out").read_text()[-3000:],
    }
    if folder.complete:
        record = read_document(folder.record_path)
        result["record"] = {k: v for k, v in record.items() if k not in ("wall_seconds", "flops_per_second")}
        contents = [folder.path / "model.safetensors", *sorted(folder.path.glob("samples/*/*.mp4"))]
        result["hashes"] = [hashlib.sha256(path.read_bytes()).hexdigest() for path in contents]
    return result


def main(where):
    variables = {
        **{"PROCID": "0", "NTASKS": "1", "LOCALID": "0", "NNODES": "1", "LAUNCH_NODE_IPADDR": "127.0.0.1"},
        **{"JOB_ID": "7", "ARRAY_JOB_ID": "7", "ARRAY_TASK_ID": "0"},
    }
    os.environ.update({f"SLURM_{name}": value for name, value in variables.items()})
    os.environ.update({worker.GPUS_VARIABLE: "0", worker.DEADLINE_VARIABLE: "inf"})
    read, write = os.pipe()
    if (
        pid := os.fork()
    ) == 0:  # in a child: training would leave threads, and a process with threads cannot be forked safely
        code = 1
        try:
            os.dup2(2, 1)
            os.write(write, prepare(where / "prepared").encode())
            code = 0
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(code)
    assert os.waitpid(pid, 0)[1] == 0
    run_id = os.read(read, 1000).decode()
    for number, line in enumerate(sys.stdin):
        result = do_round(where / "prepared", run_id, json.loads(line), where / f"round-{number}")
        shutil.rmtree(where / f"round-{number}" / "runs")
        print(json.dumps(result), flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
