"""Runs a StepModule to its last step with Lightning's Trainer, from its newest checkpoint, saving others on the way."""

import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import lightning
from torch.utils.data import DataLoader, Dataset

from scaling.frozen import device
from scaling.stage import Events
from scaling.training import checkpoints
from scaling.training.module import StepModule

LOG_SECONDS = 1.0
"""How often progress is logged at most."""


class StepBatches(Dataset):
    """The batches of the updates from `start` to `steps`, each made from its number alone."""

    def __init__(self, make: Callable[[int], Any], start: int, steps: int) -> None:
        self.make, self.start, self.steps = make, start, steps

    def __len__(self) -> int:
        return self.steps - self.start

    def __getitem__(self, index: int) -> Any:
        return self.make(self.start + index)


class Keeper(lightning.Callback):
    """Saves checkpoints at fixed steps, calls back at others, and says how far the training is.

    `visits` maps a number of updates to what happens after them, once per attempt.
    """

    def __init__(self, folder: Path, every: int, visits: Mapping[int, Callable[[], None]], events: Events) -> None:
        self.folder, self.every, self.visits, self.events = folder, every, visits, events
        self.losses: list[float] = []
        self.logged_at = 0.0
        self.began = self.seconds = 0.0
        self.updates = 0

    def on_train_batch_start(
        self, trainer: lightning.Trainer, module: lightning.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        self.began = time.monotonic()

    def on_train_batch_end(
        self, trainer: lightning.Trainer, module: lightning.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        assert isinstance(module, StepModule)
        self.losses.append(float(outputs["loss"]))
        self.seconds += time.monotonic() - self.began
        self.updates += 1
        if module.done in self.visits:
            self.visits[module.done]()
        if module.done % self.every == 0 or module.done == module.steps:
            checkpoints.save(self.folder, module.done, module.state())
        now = time.monotonic()
        if now - self.logged_at > LOG_SECONDS or module.done == module.steps:
            loss = sum(self.losses) / len(self.losses)
            self.events.log(done=module.done, total=module.steps, loss=round(loss, 5))
            self.losses, self.logged_at = [], now


def fit(
    module: StepModule,
    make_batch: Callable[[int], Any],
    folder: Path,
    events: Events,
    *,
    every: int,
    visits: Mapping[int, Callable[[], None]] | None = None,
) -> float | None:
    """Trains to the last step. `folder` holds the checkpoints, one for every `every` updates; `make_batch` maps the
    number of an update to its batch. Interrupted at any point and called again, it ends with the same bits.

    Returns the mean seconds of an update in this attempt, data and callbacks left out; None if none was needed."""
    step, groups, problems = checkpoints.newest(folder)
    for problem in problems:
        events.log(warning=problem)
    if groups:
        module.restore(step, groups)
    if module.done == module.steps:
        return None
    keeper = Keeper(folder, every, visits or {}, events)
    trainer = lightning.Trainer(
        accelerator="gpu" if device().type == "cuda" else "cpu",
        devices=1,
        precision="bf16-mixed",
        max_epochs=1,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        callbacks=[keeper],
    )
    batches = DataLoader(StepBatches(make_batch, module.done, module.steps), batch_size=None, shuffle=False)
    trainer.fit(module, batches)
    assert module.done == module.steps
    return keeper.seconds / keeper.updates
