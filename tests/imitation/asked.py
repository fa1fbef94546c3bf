"""A SLURM that tests ask, a real one or the imitation, with the same methods."""

import re
import time

SECONDS = 40
"""The longest time that a real job is waited for."""
QUEUE = ("squeue", "--noheader", "--array", "--me")


class Asked:
    """A SLURM under test. Real jobs wait for a file to appear, so that a test decides how long they run."""

    def __init__(self, slurm, folder):
        self.slurm, self.folder, self.name = slurm, folder, f"contract-{folder.name}"

    def run(self, *command):
        return self.slurm.run(*command)

    def script(self, *options, text=None):
        path = self.folder / "job.sh"
        file = f'"{self.folder}/$SLURM_JOB_ID"'
        waits = f"until [ -e {file} ]; do sleep 0.05; done\nexit $(cat {file})"
        given = [f"--job-name={self.name}", f"--output={self.folder}/out", *options]
        lines = ["#!/bin/bash", *(f"#SBATCH {option}" for option in given), text or waits]
        path.write_text("\n".join(lines) + "\n")
        return str(path)

    def submit(self, *options, text=None):
        done = self.run("sbatch", "--parsable", self.script(*options, text=text))
        assert (done.returncode, done.stderr) == (0, "")
        assert re.fullmatch(r"\d+\n", done.stdout)
        return done.stdout.strip()

    def queue(self, form="%i|%T|%r", *options):
        done = self.run(*QUEUE, f"--name={self.name}", f"--format={form}", *options)
        assert (done.returncode, done.stderr) == (0, "")
        return sorted(done.stdout.splitlines())

    def wait_for(self, line, form="%i|%T"):
        deadline = time.monotonic() + SECONDS
        while line not in (seen := self.queue(form, "--states=all")):
            assert time.monotonic() < deadline, f"{line} not among {seen}"
            time.sleep(0.1)

    def raw(self, job):
        """The job's own number, which an index of an array has besides the number of its array."""
        done = self.run("scontrol", "show", "job", "--oneliner", job)
        return re.match(r"JobId=(\d+) ", done.stdout)[1]


class Real(Asked):
    is_real = True

    def running(self, *jobs):
        for job in jobs:
            self.wait_for(f"{job}|RUNNING")

    def ends(self, job, exit_code, state):
        (self.folder / self.raw(job)).write_text(str(exit_code))
        self.wait_for(f"{job}|{state}")


class Imitated(Asked):
    is_real = False

    def running(self, *jobs):
        for job in jobs:
            self.slurm.start(job)

    def ends(self, job, exit_code, state):
        self.slurm.fail(job, state, f"{exit_code}:0")


def answer(done):
    return done.returncode, done.stdout, done.stderr
