"""What all tools train: a tiny DiT, for a few seconds, with a log of every update and the faults inside the process."""

import json
import os
import signal
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from scaling.core.store import append_jsonl, read_document, read_jsonl, write_document

UPDATES_FLOP = 2e9
"""Training FLOPs of about 120 updates."""
SAVES = 8
"""Number of checkpoints of a run."""
DIES_IN_SAVE = 3
"""Number of the checkpoint in which the process is killed."""
FAULT_UPDATE = 50
"""Update from which on a fault happens."""
MOST_TOKENS = 40
"""Largest number of tokens of a micro-batch where memory is short; a whole batch has 64."""


@dataclass(frozen=True)
class FaultCase:
    """One tool with one fault."""

    folder: str
    tool: str
    fault: str
    prepared: str
    """Folder of the stages that the training needs."""
    sleep: float = 0.05
    """Seconds that an update sleeps in addition to its work."""
    minutes: int = 30
    """Time limit of the job in minutes."""
    warn: int = 20
    """Seconds before the time limit at which the job receives a signal."""
    kill_in_save: bool = False
    out_of_memory: bool = False
    nan: bool = False

    @property
    def name(self) -> str:
        """The beginning of the names of its jobs."""
        return f"{self.tool}-{self.fault}"

    @property
    def path(self) -> Path:
        return Path(self.folder)

    @property
    def final(self) -> Path:
        """The final weights of the tools other than this project."""
        return self.path / "final.safetensors"

    def write(self) -> None:
        write_document(self.path / "case.json", asdict(self))

    @classmethod
    def read(cls, folder: Path) -> "FaultCase":
        return cls(**read_document(folder / "case.json"))

    def updates(self) -> list[dict[str, Any]]:
        """The updates that were started: by which job, which update, and when."""
        return read_jsonl(self.path / "updates.jsonl")


def disturbed(case: FaultCase, loss: Callable[[Any, int], Any]) -> Callable[[Any, int], Any]:
    """A loss of (micro-batch, update) that logs the update, sleeps, and has the faults of the case."""
    import torch

    latest = -1
    job = f"{os.environ['SLURM_JOB_ID']}.{os.environ.get('SLURM_RESTART_COUNT', '0')}"

    def wrapped(batch: Any, step: int) -> Any:
        nonlocal latest
        if step != latest:
            append_jsonl(case.path / "updates.jsonl", {"job": job, "pid": os.getpid(), "step": step, "at": time.time()})
            time.sleep(case.sleep)
            latest = step
        if case.out_of_memory and step >= FAULT_UPDATE and len(batch.conditioning) > MOST_TOKENS:
            raise torch.OutOfMemoryError(f"CUDA out of memory: {len(batch.conditioning)} tokens (simulated)")
        value = loss(batch, step)
        return value * float("nan") if case.nan and step >= FAULT_UPDATE else value

    return wrapped


def die_in(case: FaultCase, content: bytes, path: Path) -> None:
    """If this is the fault of the case, writes half of a file and kills the process by SIGKILL, once."""
    mark = case.path / "struck"
    if case.kill_in_save and not mark.exists():
        mark.touch()
        path.write_bytes(content[: len(content) // 2])
        os.kill(os.getpid(), signal.SIGKILL)


class PlainTraining:
    """The model and the loss of each update for the other tools, without this project's training loop."""

    def __init__(self, case: FaultCase) -> None:
        import torch

        from scaling.core.stage_folder import StageFolder
        from scaling.stages.dit_training import DiTTraining
        from scaling.training.dit import DiTModule

        torch.set_num_threads(1)
        folder = StageFolder(Path(case.prepared) / stage_id(case))
        training = DiTTraining.set_up(folder, folder.stage())
        assert isinstance(training.module, DiTModule)
        self.model, self.steps = training.module.dit, training.budget.steps
        self.every = max(1, self.steps // SAVES)
        part = disturbed(case, training.module.loss)
        self.loss = lambda step: sum(part(batch, step) for batch in training.batches(step))

    def optimizer(self) -> Any:
        import torch

        return torch.optim.AdamW(self.model.parameters(), lr=1e-3)


def stage_id(case: FaultCase) -> str:
    return str(json.loads((Path(case.prepared) / "stage.json").read_text())["id"])


def finish(case: FaultCase, model: Any) -> None:
    """Writes the final weights."""
    from safetensors.torch import save

    from scaling.core.store import write_bytes

    write_bytes(case.final, save({name: value.detach() for name, value in model.state_dict().items()}))
