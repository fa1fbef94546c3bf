"""`python -m benchmarks.survival`: starts two testbeds, gives every tool every fault, and prints a table."""

import argparse
import json
import shutil
import sys
import tempfile
import time
from dataclasses import asdict
from pathlib import Path

from benchmarks.survival.faults import run_all
from benchmarks.survival.report import markdown
from benchmarks.survival.task import UPDATES_FLOP
from scaling.core.store import write_document
from slurm.testbed import Settings, Testbed

GRACE_SECONDS = 10


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.survival",
        description="The same faults of a SLURM cluster for this project, Submitit and Lightning; needs root and the "
        "Debian packages slurm-wlm and munge, for `python -m slurm.testbed`. Takes up to 20 minutes.",
    )
    parser.add_argument(
        "--keep", type=Path, metavar="DIR", help="keep the folders and logs of all cases in this folder"
    )
    parser.add_argument("--json", action="store_true", help="print the results as JSON")
    args = parser.parse_args()
    folder = (args.keep or Path(tempfile.mkdtemp(prefix="survival-"))).absolute()
    folder.mkdir(parents=True, exist_ok=True)
    beds = [
        Testbed(Settings(folder=folder / "quiet-bed", grace_seconds=GRACE_SECONDS)),
        Testbed(Settings(folder=folder / "signalling-bed", grace_seconds=GRACE_SECONDS, user_signal=True)),
    ]
    began = time.monotonic()
    try:
        for bed in beds:
            bed.start()
        prepared = folder / "prepared"
        write_document(prepared / "stage.json", {"id": _prepare(prepared)})
        results = run_all(folder, prepared, beds[0], beds[1], lambda text: print(text, file=sys.stderr, flush=True))
    finally:
        for bed in beds:
            bed.stop()
        if args.keep is None:
            shutil.rmtree(folder)
    if args.json:
        print(json.dumps([asdict(result) for result in results], indent=1))
    else:
        print(markdown(results, time.monotonic() - began))
    return 0


def _prepare(folder: Path) -> str:
    from tests.killed_rounds import prepare

    return prepare(folder, flop_budget=UPDATES_FLOP)


if __name__ == "__main__":
    sys.exit(main())
