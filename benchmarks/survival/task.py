"""What is trained, by everybody: a tiny DiT, for a few seconds. A log of every update, and the faults from within."""

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
"""What 120 updates take."""
SAVES = 8
DIES_IN_SAVE = 3
"""Where the fault is SIGKILL in the middle of one."""
STRIKE = 50
"""Update at which a fault from within begins."""
MOST_TOKENS = 40
"""Of a micro-batch where memory is short; a whole batch has 64."""


@dataclass(frozen=True)
class Case:
    """One tool, given one fault."""

    folder: str
    tool: str
    fault: str
    prepared: str
    """Folder of the stages that training needs."""
    sleep: float = 0.05
    """Seconds that an update takes beside its work."""
    minutes: int = 30
    """Time limit of the job."""
    warn: int = 20
    """Seconds before it at which the job is to be signalled."""
    kill_in_save: bool = False
    out_of_memory: bool = False
    nan: bool = False

    @property
    def name(self) -> str:
        """Of its jobs, at the beginning."""
        return f"{self.tool}-{self.fault}"

    @property
    def path(self) -> Path:
        return Path(self.folder)

    @property
    def final(self) -> Path:
        """The weights in the end, of the others."""
        return self.path / "final.safetensors"

    def write(self) -> None:
        write_document(self.path / "case.json", asdict(self))

    @classmethod
    def read(cls, folder: Path) -> "Case":
        return cls(**read_document(folder / "case.json"))

    def updates(self) -> list[dict[str, Any]]:
        """The updates begun: who, which, when."""
        return read_jsonl(self.path / "updates.jsonl")


def disturbed(case: Case, loss: Callable[[Any, int], Any]) -> Callable[[Any, int], Any]:
    """A loss of (micro-batch, update) that says which update it is at, takes its time, and has the case's faults."""
    import torch

    latest = -1
    who = f"{os.environ['SLURM_JOB_ID']}.{os.environ.get('SLURM_RESTART_COUNT', '0')}"

    def wrapped(batch: Any, step: int) -> Any:
        nonlocal latest
        if step != latest:
            append_jsonl(case.path / "updates.jsonl", {"job": who, "pid": os.getpid(), "step": step, "at": time.time()})
            time.sleep(case.sleep)
            latest = step
        if case.out_of_memory and step >= STRIKE and len(batch.conditioning) > MOST_TOKENS:
            raise torch.OutOfMemoryError(f"CUDA out of memory: {len(batch.conditioning)} tokens (made up)")
        value = loss(batch, step)
        return value * float("nan") if case.nan and step >= STRIKE else value

    return wrapped


def die_in(case: Case, content: bytes, path: Path) -> None:
    """Writes half of a file and dies by SIGKILL, if this is the case's fault, once."""
    mark = case.path / "struck"
    if case.kill_in_save and not mark.exists():
        mark.touch()
        path.write_bytes(content[: len(content) // 2])
        os.kill(os.getpid(), signal.SIGKILL)


class PlainTraining:
    """The model for the other tools: without this project's training loop. One loss for each update."""

    def __init__(self, case: Case) -> None:
        import torch

        from scaling.core.stage import StageFolder
        from scaling.stages.dit import Training
        from scaling.training.dit import DiTModule

        torch.set_num_threads(1)
        folder = StageFolder(Path(case.prepared) / stage_id(case))
        training = Training.of(folder, folder.stage())
        assert isinstance(training.module, DiTModule)
        self.model, self.steps = training.module.dit, training.budget.steps
        self.every = max(1, self.steps // SAVES)
        part = disturbed(case, training.module.loss)
        self.loss = lambda step: sum(part(batch, step) for batch in training.batches(step))

    def optimizer(self) -> Any:
        import torch

        return torch.optim.AdamW(self.model.parameters(), lr=1e-3)


def stage_id(case: Case) -> str:
    return json.loads((Path(case.prepared) / "stage.json").read_text())["id"]


def finish(case: Case, model: Any) -> None:
    """Leaves the weights in the end."""
    from safetensors.torch import save

    from scaling.core.store import write_bytes

    write_bytes(case.final, save({name: value.detach() for name, value in model.state_dict().items()}))
