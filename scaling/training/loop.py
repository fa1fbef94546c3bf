"""Trains a StepModule from its newest checkpoint to its last step with Lightning's Trainer, and saves checkpoints in
between. What an update does is in `scaling.training.module`.

With several ranks, all of them call `fit`. They exchange gradients as the engine says, and only the first rank writes
files and logs.
"""

import math
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from statistics import median
from typing import Any, Literal

import lightning
import torch
from lightning.fabric.plugins.environments.cluster_environment import ClusterEnvironment
from lightning.fabric.plugins.environments.lightning import LightningEnvironment
from lightning.fabric.plugins.environments.slurm import SLURMEnvironment
from lightning.fabric.plugins.environments.torchelastic import TorchElasticEnvironment
from lightning.pytorch.strategies import DDPStrategy, ModelParallelStrategy, Strategy
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from scaling.core import signals
from scaling.core.events import Events
from scaling.core.specs import EngineSpec, Precision
from scaling.distributed.devices import current_device
from scaling.distributed.group import all_gather
from scaling.distributed.precision import current_precision
from scaling.distributed.ranks import in_slurm, rank, ranks_on_node, world_size
from scaling.distributed.shards import full_on_first_rank
from scaling.training import checkpoints
from scaling.training.module import StepModule

LOG_SECONDS = 1.0, 30.0
"""Smallest and largest time between two log rows. Between these limits, it is a hundredth of the time since the start
of the attempt."""
HOURS_BETWEEN_FAULTS = 6.0
"""Mean time between the faults of one job, preemptions included. This is an assumption, not a measurement! The time
between checkpoints grows with its square root."""
TIMED_UPDATES = 8
"""Number of updates whose median duration plans the next checkpoint."""
FIRST_SAVE_SECONDS = 5.0
"""Assumed duration of saving a checkpoint, until one was saved."""

LIGHTNING_PRECISION: dict[Precision, Literal["bf16-mixed", "32-true"]] = {"bf16": "bf16-mixed", "fp32": "32-true"}
"""What Lightning calls a precision."""

WeightsCallback = Callable[[dict[str, Tensor]], None]
"""A function that is called on the first rank at some point of the training, with the full averaged weights at that
point."""


class StepBatches(Dataset[list[Any]]):
    """A data set of the batches of the updates from `start` to `until`, each made from the number of its update."""

    def __init__(self, make: Callable[[int], list[Any]], start: int, until: int) -> None:
        self.make, self.start, self.until = make, start, until

    def __len__(self) -> int:
        return self.until - self.start

    def __getitem__(self, index: int) -> list[Any]:
        return self.make(self.start + index)


class SaveAndLog(lightning.Callback):
    """A callback that saves checkpoints, calls the weights callbacks and logs the progress.

    Checkpoints are saved after every `every` updates, when the ranks were asked to stop, and at the interval of
    `seconds_between_saves`. `weights_callbacks` maps a number of updates to the function that is called after it.
    """

    def __init__(
        self, folder: Path, every: int, until: int, weights_callbacks: Mapping[int, WeightsCallback], events: Events
    ) -> None:
        self.folder, self.every, self.until, self.weights_callbacks, self.events = (
            folder,
            every,
            until,
            weights_callbacks,
            events,
        )
        self.losses: list[float] = []
        """The losses of the updates since the last log row."""
        self.fit_start, self.logged_at, self.update_start = time.monotonic(), 0.0, 0.0
        self.log_fields: dict[str, int] = {}
        """Fields that every log row has: the number of updates at the beginning of the attempt, and the number of
        updates in the newest checkpoint of the attempt, if there is one."""
        self.update_seconds: list[float] = []
        """The duration of each update of the attempt."""
        self.save_seconds = FIRST_SAVE_SECONDS
        self.next_save: int | None = None
        """The number of updates after which the next checkpoint is planned."""

    def on_train_batch_start(
        self, trainer: lightning.Trainer, module: lightning.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        self.update_start = time.monotonic()

    def on_train_batch_end(
        self, trainer: lightning.Trainer, module: lightning.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        assert isinstance(module, StepModule)
        self.losses.append(float(outputs["loss"]))
        self.update_seconds.append(time.monotonic() - self.update_start)
        if module.done in self.weights_callbacks:
            weights = full_on_first_rank(module.ema.weights)
            if rank() == 0:
                self.weights_callbacks[module.done](weights)
        save = module.done % self.every == 0 or module.done in (self.until, self.next_save) or module.stopping
        if save:
            self._save(module)
        elif len(self.update_seconds) == TIMED_UPDATES:
            self._plan_save(module.done)
        now = time.monotonic()
        pause = min(max(LOG_SECONDS[0], (now - self.fit_start) / 100), LOG_SECONDS[1])
        if save or now - self.logged_at > pause:
            loss = sum(self.losses) / len(self.losses)
            if rank() == 0:
                self.events.log(done=module.done, total=self.until, loss=round(loss, 5), **self.log_fields)
            self.losses, self.logged_at = [], now
        if module.stopping:
            all_gather(torch.zeros(1))  # wait for all ranks, because the scheduler kills the others when one ends
            raise signals.StoppedError(f"stopped after {module.done} of {self.until} updates")

    def _save(self, module: StepModule) -> None:
        start = time.monotonic()
        checkpoints.save(self.folder, module.done, module.state())
        self.save_seconds = time.monotonic() - start
        self.log_fields["saved"] = module.done
        self._plan_save(module.done)

    def _plan_save(self, done: int) -> None:
        """Plans the next checkpoint. All ranks use the durations of the first rank, so that they plan the same."""
        durations = torch.tensor([median(self.update_seconds[-TIMED_UPDATES:]), self.save_seconds])
        update_seconds, save_seconds = all_gather(durations)[0].tolist()
        self.next_save = done + max(1, round(seconds_between_saves(save_seconds) / update_seconds))


def seconds_between_saves(save_seconds: float) -> float:
    """The interval between checkpoints that minimizes the time spent on saving plus the time lost to faults: Young's
    first-order optimum sqrt(2 x save_seconds x seconds between faults) (Communications of the ACM 17(9), 1974,
    p. 530)."""
    return math.sqrt(2 * save_seconds * HOURS_BETWEEN_FAULTS * 3600)


def fit(
    module: StepModule,
    make_batch: Callable[[int], list[Any]],
    folder: Path,
    events: Events,
    *,
    every: int,
    weights_callbacks: Mapping[int, WeightsCallback] | None = None,
    until: int | None = None,
    start: Path | None = None,
    engine: EngineSpec | None = None,
) -> float | None:
    """Trains to the last step, or to `until`. `make_batch` maps the number of an update to this rank's micro-batches.
    `folder` holds the checkpoints, at least one for every `every` updates; if it has none, training continues from the
    checkpoint in `start`. `scaling.training.engine` has already prepared the model for the engine.

    If training is interrupted at any point and `fit` is called again, the result has the same bits on a CPU. It differs
    by rounding on a GPU, where attention sums its gradients in any order; with more than two ranks, where the
    communication library decides the order of sums; and after a change of the engine. The data and the noise are always
    the same.

    Raises StoppedError if any rank was asked to stop, after a checkpoint of the last update was saved. Raises
    DivergedError if the loss is not finite.

    Returns the median duration of an update in this attempt in seconds, without loading data and callbacks, or None if
    no update was left to do."""
    engine = engine or EngineSpec()
    until, stems = until or module.steps, module.state().keys()
    step, groups, problems = checkpoints.load_newest(folder, stems)
    if not groups and start is not None:
        step, groups, start_problems = checkpoints.load_newest(start, stems)
        problems += start_problems
    for problem in problems if rank() == 0 else []:
        events.log(warning=problem)
    steps = all_gather(torch.tensor([step])).flatten().tolist()
    assert len(set(steps)) == 1, f"the ranks loaded checkpoints of different steps: {steps}"
    if groups:
        module.restore(step, groups)
    if rank() == 0:
        events.log(done=module.done, total=until, begun=module.done)
    if module.done == until:
        return None
    callback = SaveAndLog(folder, every, until, weights_callbacks or {}, events)
    callback.log_fields["begun"] = module.done
    trainer = lightning.Trainer(
        accelerator="gpu" if current_device().type == "cuda" else "cpu",
        devices=ranks_on_node(),
        num_nodes=world_size() // ranks_on_node(),
        strategy=_strategy(engine),
        plugins=_environment(),
        use_distributed_sampler=False,
        precision=LIGHTNING_PRECISION[current_precision()],
        max_epochs=1,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        callbacks=[callback],
    )
    if signals.is_listening():
        # Lightning's handler for SIGTERM broadcasts from inside the handler, whatever the ranks are doing. They then
        # wait without end, or end without a message and with exit code 0. No setting of Lightning switches it off.
        trainer._signal_connector.register_signal_handlers = _do_nothing  # type: ignore[method-assign]
    updates = StepBatches(make_batch, module.done, until)
    batches = DataLoader(updates, batch_size=None, num_workers=engine.workers, worker_init_fn=_ignore_signals)
    trainer.fit(module, batches)
    assert module.done == until
    return median(callback.update_seconds)


def _do_nothing() -> None:
    pass


def _ignore_signals(worker: int) -> None:
    signals.ignore()


def _environment() -> ClusterEnvironment:
    """Tells Lightning what started the ranks. Under SLURM, Lightning must not requeue the job, because `slurm.worker`
    does."""
    if world_size() == 1:
        return LightningEnvironment()
    return SLURMEnvironment(auto_requeue=False) if in_slurm() else TorchElasticEnvironment()


def _strategy(engine: EngineSpec) -> Strategy | str:
    """Tells Lightning how gradients are exchanged: by DDP, or by the model itself if it is sharded (FSDP2)."""
    if world_size() == 1:
        return "auto"
    if engine.sharding == "shard":
        return ModelParallelStrategy(data_parallel_size=world_size(), tensor_parallel_size=1)
    return DDPStrategy(gradient_as_bucket_view=True)
