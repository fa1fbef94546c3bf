"""`scaling run` on this machine and the jobs that it starts."""

import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest


def jobs_of(out):
    """Command lines of the processes that work in an output folder."""
    lines = {}
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            lines[int(path.parent.name)] = path.read_text().replace("\0", " ")
        except OSError:  # it has just ended
            continue
    return {pid: line for pid, line in lines.items() if str(out) in line and "submitit" in line}


@pytest.mark.skipif(not Path("/proc/self/cmdline").exists(), reason="processes are listed by /proc")
@pytest.mark.parametrize("sent", [signal.SIGTERM, signal.SIGINT])
def test_ending_a_sweep_ends_its_jobs(tmp_path, sent):
    out = tmp_path / "out"
    command = [sys.executable, "-m", "scaling.cli.main", "run", "tiny", "--out", str(out)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 60
    while not jobs_of(out):
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.05)
    process.send_signal(sent)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130
    assert errors.splitlines()[-1] == "scaling: interrupted; run the same command again to continue"
    while jobs_of(out):
        assert time.monotonic() < deadline
        time.sleep(0.05)
