"""How long a login node waits: `scaling plan` and `scaling explain` of a sweep of 1,000 runs, with Python's start.

    python -m benchmarks.planning

The folders of the runs are made first, in a temporary folder: 1,000 runs that are complete, with records; then the same
1,000 against a sweep whose VAE has changed, so that each is compared with its predecessor; then 1,000 that are begun
and unfinished.
"""

import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import yaml

from scaling.core.records import RunRecord, write_record
from scaling.core.specs import EngineSpec
from scaling.core.stage_folder import StageFolder
from sweeps.load import load_sweep
from sweeps.phases import planned_phases
from sweeps.planning.plan import plan
from sweeps.spec import SweepSpec

REPEATS = 5
"""Of which the fastest and the median are printed: other processes only slow one down."""


def sweep_of_1000() -> dict[str, Any]:
    """Ten budgets of a hundred sizes each."""
    sizes = [f"w{32 * width}d{depth}" for width in range(1, 11) for depth in range(1, 11)]
    return {
        "name": "thousand",
        "data": {"worlds": {"count": 4096, "frames": 68}, "pixels": 4096},
        "vae": "tiny",
        "base_flops": 1e13,
        "ladder": {multiple: sizes for multiple in (1, 2, 3, 4, 6, 8, 11, 16, 22, 28)},
        "target": 320,
        "target_sizes": sizes[-5:],
    }


def make_folders(sweep: SweepSpec, out: Path, *, complete: bool) -> None:
    """A folder for every stage, complete with a record, or with an attempt that was killed half-way."""
    known = planned_phases(sweep, None)
    lines = {line.id: line for line in plan(sweep, known=known).stages}
    for stage in known.stages.values():
        folder = StageFolder.create(out / "runs", stage)
        events = folder.claim_attempt()
        events.log(done=400, total=800, loss=0.5)
        if complete:
            line = lines[stage.id]
            record = RunRecord(
                run_id=stage.id,
                stage=stage.kind,
                n_params=line.n_params,
                device="cpu",
                engine=EngineSpec(),
                flops_per_second=6e10 if stage.kind == "dit" else None,
            )
            write_record(folder.record_path, record)
            folder.finish()


def seconds(arguments: Sequence[str]) -> list[float]:
    """Wall time of a command, several times, sorted."""
    durations = []
    for _ in range(REPEATS):
        began = time.perf_counter()
        subprocess.run([sys.executable, "-m", "scaling.cli.main", *arguments], check=True, stdout=subprocess.DEVNULL)
        durations.append(time.perf_counter() - began)
    return sorted(durations)


def main() -> None:
    with TemporaryDirectory() as folder:
        where = Path(folder)
        document = sweep_of_1000()
        unchanged, changed = str(where / "same.yaml"), str(where / "changed.yaml")
        (where / "same.yaml").write_text(yaml.safe_dump(document))
        (where / "changed.yaml").write_text(yaml.safe_dump({**document, "vae_train": {"steps": 2000}}))
        complete, unfinished = str(where / "complete"), str(where / "begun")
        make_folders(load_sweep(unchanged), Path(complete), complete=True)
        make_folders(load_sweep(unchanged), Path(unfinished), complete=False)
        cases = {
            "plan, nothing on disk": ["plan", unchanged, "--out", str(where / "empty")],
            "plan --cluster h100": ["plan", unchanged, "--out", str(where / "empty"), "--cluster", "h100"],
            "plan, 1,000 complete": ["plan", unchanged, "--out", complete],
            "plan --explain, 1,000 complete": ["plan", unchanged, "--out", complete, "--explain"],
            "plan --explain, the VAE changed": ["plan", changed, "--out", complete, "--explain"],
            "plan --explain, 1,000 unfinished": ["plan", unchanged, "--out", unfinished, "--explain"],
            "explain OUT, 1,000 unfinished": ["explain", unfinished],
            "explain OUT --sweep, the VAE changed": ["explain", complete, "--sweep", changed],
            "explain OUT RUN": ["explain", complete, "dit-w64d2@4x"],
            "explain OUT RUN --sweep, the VAE changed": ["explain", complete, "dit-w64d2@4x", "--sweep", changed],
        }
        print(f"{'':42}{'fastest':>10}{'median':>10}")
        for name, arguments in cases.items():
            times = seconds(arguments)
            print(f"{name:42}{times[0]:9.2f}s{times[len(times) // 2]:9.2f}s")


if __name__ == "__main__":
    main()
