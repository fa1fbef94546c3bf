"""Submits 1,000 runs to a real SLURM: the number of sbatch calls, their time, and the time of `scaling status` after
it.

    python -m benchmarks.submitting

A testbed (docs/testbed.md) is started for it, once with SLURM's own MaxArraySize of 1001 and once with 17. A job in the
partition with priority takes both nodes, so that no job of the sweep starts.
"""

import os
import subprocess
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory

import yaml

from benchmarks.planning import seconds, sweep_of_1000
from scaling.core.store import read_document
from slurm.testbed import Settings, Testbed


def scaling(*arguments: str) -> float:
    """Wall time of a command."""
    began = time.perf_counter()
    subprocess.run([sys.executable, "-m", "scaling.cli.main", *arguments], check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - began


def measure(where: Path, max_array_size: int) -> None:
    testbed = Testbed(Settings(folder=where / "testbed", max_array_size=max_array_size))
    testbed.start()
    try:
        os.environ.update(testbed.environment)
        options = ("--partition=high", "--nodes=2", "--gpus-per-node=8", "--output=/dev/null", "--wrap=sleep 600")
        subprocess.run(["sbatch", *options], check=True, stdout=subprocess.DEVNULL)
        sweep, out = where / "thousand.yaml", str(where / f"out-{max_array_size}")
        sweep.write_text(yaml.safe_dump(sweep_of_1000()))
        submitted = scaling("submit", str(sweep), "--cluster", "testbed", "--out", out)
        documents = [read_document(path) for path in Path(out).glob("slurm/submissions/*.json")]
        jobs = sum(len(document["stages"]) or 1 for document in documents)
        submitted_again = scaling("submit", str(sweep), "--cluster", "testbed", "--out", out)
        first_status = scaling("status", out)
        repeated = seconds(["status", out])
        cancelled = scaling("cancel", out)
        print(
            f"MaxArraySize {max_array_size:5}: {jobs} jobs in {len(documents)} sbatch calls, {submitted:.1f} s; "
            f"again {submitted_again:.1f} s; status {first_status:.2f} s asking SLURM, then {repeated[0]:.2f} s "
            f"(median {repeated[len(repeated) // 2]:.2f} s); cancel {cancelled:.1f} s",
            flush=True,
        )
    finally:
        testbed.stop()


def main() -> None:
    with TemporaryDirectory() as folder:
        for size in (1001, 17):
            measure(Path(folder), size)


if __name__ == "__main__":
    main()
