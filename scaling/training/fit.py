"""Runs a StepModule to its last step with Lightning's Trainer, from its newest checkpoint, saving others on the way.

Several ranks run it together: gradients are exchanged as the engine says, and the first rank alone writes and speaks.
"""

import math
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from statistics import median
from typing import Any, Literal

import lightning
import torch
from lightning.pytorch.plugins.environments import (
    ClusterEnvironment,
    LightningEnvironment,
    SLURMEnvironment,
    TorchElasticEnvironment,
)
from lightning.pytorch.strategies import DDPStrategy, ModelParallelStrategy, Strategy
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from scaling.core import signals
from scaling.core.specs import EngineSpec
from scaling.core.stage import Events
from scaling.distributed.devices import current_device
from scaling.distributed.group import all_gather
from scaling.distributed.ranks import in_slurm, rank, ranks, ranks_on_node
from scaling.distributed.shards import gathered
from scaling.training import checkpoints
from scaling.training.module import StepModule

LOG_SECONDS = 1.0, 30.0
"""How often progress is logged: the first at first, the second in the end, between them after every hundredth of the
time so far."""
HOURS_BETWEEN_FAULTS = 6.0
"""Of one job, preemptions included. Not measured: an assumption! Checkpoints become rarer with its square root."""
SETTLED = 8
"""Updates after which an attempt knows how long one takes."""
FIRST_SAVE_SECONDS = 5.0
"""What a checkpoint is thought to take before one was written."""

Precision = Literal["bf16-mixed", "32-true"]
"""bfloat16 products of float32 weights; or float32 throughout, to tell rounding from mistakes."""

Visit = Callable[[dict[str, Tensor]], None]
"""What happens in the course of a training, with the averaged weights of that moment, whole; on the first rank."""


class StepBatches(Dataset):
    """The batches of the updates from `start` to `until`, each made from its number alone."""

    def __init__(self, make: Callable[[int], Any], start: int, until: int) -> None:
        self.make, self.start, self.until = make, start, until

    def __len__(self) -> int:
        return self.until - self.start

    def __getitem__(self, index: int) -> Any:
        return self.make(self.start + index)


class Keeper(lightning.Callback):
    """Saves checkpoints, calls back at some steps, and says how far the training is.

    Checkpoints are saved after every `every` updates, where the ranks were asked to stop, and so often that faults cost
    least: see `seconds_between_saves`. `visits` maps a number of updates to what happens after them, once per attempt.
    """

    def __init__(self, folder: Path, every: int, until: int, visits: Mapping[int, Visit], events: Events) -> None:
        self.folder, self.every, self.until, self.visits, self.events = folder, every, until, visits, events
        self.losses: list[float] = []
        self.started, self.logged_at, self.began = time.monotonic(), 0.0, 0.0
        self.told: dict[str, int] = {}
        """What every log row says: with how many updates the attempt began, and how many are saved."""
        self.seconds: list[float] = []
        """Of each update."""
        self.save_seconds = FIRST_SAVE_SECONDS
        self.next_save: int | None = None

    def on_train_batch_start(
        self, trainer: lightning.Trainer, module: lightning.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        self.began = time.monotonic()

    def on_train_batch_end(
        self, trainer: lightning.Trainer, module: lightning.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        assert isinstance(module, StepModule)
        self.losses.append(float(outputs["loss"]))
        self.seconds.append(time.monotonic() - self.began)
        if module.done in self.visits:
            weights = gathered(module.ema.weights)
            if rank() == 0:
                self.visits[module.done](weights)
        save = module.done % self.every == 0 or module.done in (self.until, self.next_save) or module.stopping
        if save:
            self._save(module)
        elif len(self.seconds) == SETTLED:
            self._plan_save(module.done)
        now = time.monotonic()
        pause = min(max(LOG_SECONDS[0], (now - self.started) / 100), LOG_SECONDS[1])
        if save or now - self.logged_at > pause:
            loss = sum(self.losses) / len(self.losses)
            if rank() == 0:
                self.events.log(done=module.done, total=self.until, loss=round(loss, 5), **self.told)
            self.losses, self.logged_at = [], now
        if module.stopping:
            all_gather(torch.zeros(1))  # where one rank ends, the scheduler kills the others: not before all are done
            raise signals.StoppedError(f"stopped after {module.done} of {self.until} updates")

    def _save(self, module: StepModule) -> None:
        began = time.monotonic()
        checkpoints.save(self.folder, module.done, module.state())
        self.save_seconds = time.monotonic() - began
        self.told["saved"] = module.done
        self._plan_save(module.done)

    def _plan_save(self, done: int) -> None:
        """All ranks go by the clock of the first one."""
        update, save = all_gather(torch.tensor([median(self.seconds[-SETTLED:]), self.save_seconds]))[0].tolist()
        self.next_save = done + max(1, round(seconds_between_saves(save) / update))


def seconds_between_saves(save_seconds: float) -> float:
    """The interval at which saving and losing work to faults cost least together: Young's first-order optimum
    sqrt(2 x save_seconds x seconds between faults) (Communications of the ACM 17(9), 1974, p. 530)."""
    return math.sqrt(2 * save_seconds * HOURS_BETWEEN_FAULTS * 3600)


def fit(
    module: StepModule,
    make_batch: Callable[[int], list[Any]],
    folder: Path,
    events: Events,
    *,
    every: int,
    visits: Mapping[int, Visit] | None = None,
    until: int | None = None,
    start: Path | None = None,
    engine: EngineSpec | None = None,
    precision: Precision = "bf16-mixed",
) -> float | None:
    """Trains to the last step, or to `until`. `folder` holds the checkpoints, one for every `every` updates at least;
    `make_batch` maps the number of an update to this rank's micro-batches. Where `folder` has no checkpoint, the one in
    `start` is where training goes on from. What of the engine concerns the model, `scaling.training.engine` has done.

    Interrupted at any point and called again, it ends with the same bits on a CPU; on a GPU, whose attention adds its
    gradients up in any order, on more than two ranks, whose order of sums is the communication library's, and after a
    change of engine, with all but the last ones. What is trained on is the same everywhere.

    Raises StoppedError where any rank was asked to stop: all have saved their last update then. Raises DivergedError.

    Returns the median seconds of an update in this attempt, data and callbacks left out; None if none was needed."""
    engine = engine or EngineSpec()
    until, stems = until or module.steps, module.state().keys()
    step, groups, problems = checkpoints.newest(folder, stems)
    if not groups and start is not None:
        step, groups, found = checkpoints.newest(start, stems)
        problems += found
    for problem in problems if rank() == 0 else []:
        events.log(warning=problem)
    steps = all_gather(torch.tensor([step])).flatten().tolist()
    assert len(set(steps)) == 1, f"the ranks found checkpoints of different steps: {steps}"
    if groups:
        module.restore(step, groups)
    if rank() == 0:
        events.log(done=module.done, total=until, begun=module.done)
    if module.done == until:
        return None
    keeper = Keeper(folder, every, until, visits or {}, events)
    keeper.told["begun"] = module.done
    trainer = lightning.Trainer(
        accelerator="gpu" if current_device().type == "cuda" else "cpu",
        devices=ranks_on_node(),
        num_nodes=ranks() // ranks_on_node(),
        strategy=_strategy(engine),
        plugins=_environment(),
        use_distributed_sampler=False,
        precision=precision,
        max_epochs=1,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        callbacks=[keeper],
    )
    if signals.is_listening():
        # Lightning's handler for SIGTERM broadcasts from inside itself, whatever the ranks are at: they wait for ever,
        # or end without a word and with exit code 0. No setting of its leaves the signal alone.
        trainer._signal_connector.register_signal_handlers = _nothing  # type: ignore[method-assign]
    updates = StepBatches(make_batch, module.done, until)
    batches = DataLoader(
        updates, batch_size=None, shuffle=False, num_workers=engine.workers, worker_init_fn=_ignore_signals
    )
    trainer.fit(module, batches)
    assert module.done == until
    return median(keeper.seconds)


def _nothing() -> None:
    pass


def _ignore_signals(worker: int) -> None:
    signals.ignore()


def _environment() -> ClusterEnvironment:
    """Who started the ranks. Under SLURM Lightning must not requeue the job as well: see `slurm.worker`."""
    if ranks() == 1:
        return LightningEnvironment()
    return SLURMEnvironment(auto_requeue=False) if in_slurm() else TorchElasticEnvironment()


def _strategy(engine: EngineSpec) -> Strategy | str:
    """Who exchanges gradients: DDP, or, where the model is divided already (FSDP2), the model itself."""
    if ranks() == 1:
        return "auto"
    if engine.sharding == "shard":
        return ModelParallelStrategy(data_parallel_size=ranks(), tensor_parallel_size=1)
    return DDPStrategy(gradient_as_bucket_view=True)
