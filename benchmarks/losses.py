"""Does a change move any number? Trains the sweep `tiny` at another revision and in this working tree, and compares the
metrics and counts of every record.

    python -m benchmarks.losses HEAD~1

Ids are left out, because a renamed field changes them. Exit code 0 where all numbers are equal to the last bit, 1 where
some differ; by how much is printed. It takes about two minutes on two cores.
"""

import argparse
import os
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from scaling.core.store import read_document, write_document

ROOT = Path(__file__).parents[1]
WORKTREE = ("git", "-C", str(ROOT), "worktree")
COUNTS = ("n_params", "n_params_total", "num_tokens", "train_flops", "steps", "unique_clips", "unique_tokens")

Numbers = dict[str, float | None]
LossKey = tuple[str, ...]


def train(code: Path, out: Path) -> None:
    """Runs the sweep `tiny` with the code in a folder, in bfloat16, which was the only precision of earlier code."""
    write_document(out / "precision.json", {"precision": "bf16", "seconds": {}, "processor": ""})
    command = [sys.executable, "-m", "scaling.cli.main", "demo", "--tiny", "--out", str(out), "--json"]
    subprocess.run(
        command, cwd=code, env={**os.environ, "PYTHONPATH": str(code)}, check=True, stdout=subprocess.DEVNULL
    )


def numbers_of(out: Path) -> dict[LossKey, Numbers]:
    """The numbers of every record, by what does not change with an id: kind, slug, budget and compute."""
    numbers: dict[LossKey, Numbers] = {}
    for mark in sorted(out.glob("runs/*/COMPLETE")):
        record: dict[str, Any] = read_document(mark.parent / "record.json")
        multiple = record.get("multiple")
        compute = record.get("compute") or ("" if multiple is None else "base" if multiple == 1 else f"{multiple:g}x")
        slug = mark.parent.name.rpartition("-")[0]
        key = (record["stage"], slug, str(record.get("flop_budget")), compute if record["stage"] == "metrics" else "")
        numbers[key] = {name: record.get(name) for name in COUNTS}
        numbers[key] |= {metric["name"]: metric["value"] for metric in record["metrics"]}
    return numbers


def differences(before: dict[LossKey, Numbers], after: dict[LossKey, Numbers]) -> list[str]:
    """A line for every number that differs, and for every record that only one side has."""
    lines = [
        f"{' '.join(filter(None, key))}: only {'before' if key in before else 'after'}" for key in before.keys() ^ after
    ]
    for key in before.keys() & after.keys():
        for name in before[key].keys() | after[key].keys():
            old, new = before[key].get(name), after[key].get(name)
            if old != new:
                share = f" ({new / old - 1:+.2e})" if old and new is not None else ""
                lines.append(f"{_name(key)}: {name} {old} -> {new}{share}")
    return sorted(lines)


def _name(key: LossKey) -> str:
    return " ".join(part for part in key if part)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.losses", description="compares two revisions")
    parser.add_argument("before", metavar="REVISION", help="the revision to compare this working tree with")
    args = parser.parse_args()
    with TemporaryDirectory() as folder:
        code = Path(folder) / "code"
        subprocess.run([*WORKTREE, "add", "--quiet", "--detach", code, args.before], check=True)
        try:
            train(code, Path(folder) / "before")
            train(ROOT, Path(folder) / "after")
        finally:
            subprocess.run([*WORKTREE, "remove", "--force", code], check=True)
        before, after = numbers_of(Path(folder) / "before"), numbers_of(Path(folder) / "after")
    lines = differences(before, after)
    print("\n".join([*lines, f"{len(before)} records before, {len(after)} after, {len(lines)} differences"]))
    return 1 if lines else 0


if __name__ == "__main__":
    sys.exit(main())
