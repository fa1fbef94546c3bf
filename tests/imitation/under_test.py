"""The SLURM under test, a real one or the imitation, with the same methods."""

import re
import time

SECONDS = 40
"""The longest time that a real job is waited for."""
QUEUE = ("squeue", "--noheader", "--array", "--me")


class SlurmUnderTest:
    """A SLURM under test. Real jobs wait for a file to appear, so that a test decides how long they run."""

    def __init__(self, slurm, folder):
        self.slurm, self.folder, self.name = slurm, folder, f"contract-{folder.name}"

    def run(self, *command):
        return self.slurm.run(*command)

    def script(self, *options, text=None):
        path = self.folder / "job.sh"
        file = f'"{self.folder}/$SLURM_JOB_ID"'
        waits = f"until [ -e {file} ]; do sleep 0.05; done\nexit $(cat {file})"
        all_options = [f"--job-name={self.name}", f"--output={self.folder}/out", *options]
        lines = ["#!/bin/bash", *(f"#SBATCH {option}" for option in all_options), text or waits]
        path.write_text("\n".join(lines) + "\n")
        return str(path)

    def submit(self, *options, text=None):
        process = self.run("sbatch", "--parsable", self.script(*options, text=text))
        assert (process.returncode, process.stderr) == (0, "")
        assert re.fullmatch(r"\d+\n", process.stdout)
        return process.stdout.strip()

    def queue(self, form="%i|%T|%r", *options):
        process = self.run(*QUEUE, f"--name={self.name}", f"--format={form}", *options)
        assert (process.returncode, process.stderr) == (0, "")
        return sorted(process.stdout.splitlines())

    def wait_for(self, line, form="%i|%T"):
        deadline = time.monotonic() + SECONDS
        while line not in (lines := self.queue(form, "--states=all")):
            assert time.monotonic() < deadline, f"{line} not among {lines}"
            time.sleep(0.1)

    def raw(self, job):
        """The job's own number, which an index of an array has besides the number of its array."""
        process = self.run("scontrol", "show", "job", "--oneliner", job)
        return re.match(r"JobId=(\d+) ", process.stdout)[1]


class Real(SlurmUnderTest):
    is_real = True

    def running(self, *jobs):
        for job in jobs:
            self.wait_for(f"{job}|RUNNING")

    def ends(self, job, exit_code, state):
        (self.folder / self.raw(job)).write_text(str(exit_code))
        self.wait_for(f"{job}|{state}")


class Imitated(SlurmUnderTest):
    is_real = False

    def running(self, *jobs):
        for job in jobs:
            self.slurm.start(job)

    def ends(self, job, exit_code, state):
        self.slurm.fail(job, state, f"{exit_code}:0")


def answer(process):
    return process.returncode, process.stdout, process.stderr
