"""`python -m benchmarks.survival.start FOLDER`: submits a case, and once more where that fails, as a user would."""

import sys
from importlib import import_module
from pathlib import Path

from benchmarks.survival.task import FaultCase

TOOLS = {"ours": "ours", "submitit": "with_submitit", "lightning": "with_lightning"}


def main(folder: Path) -> None:
    case = FaultCase.read(folder)
    tool = import_module(f"benchmarks.survival.{TOOLS[case.tool]}")
    try:
        tool.start(case)
    except Exception as error:
        print(f"{type(error).__name__}: {error}; once more", flush=True)
        tool.start(case)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
