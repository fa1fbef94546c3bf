"""The training that `trunk` and `dit` stages share: from the stage's fields to its data, model, budget and result."""

import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch

from scaling.accounting import flops
from scaling.core.errors import UserError
from scaling.core.events import Events
from scaling.core.records import read_record
from scaling.core.specs import EngineSpec, OptimSpec
from scaling.core.stage import Stage
from scaling.core.stage_fields import TrainingFields
from scaling.core.stage_folder import StageFolder
from scaling.diffusion.latents import LatentSet
from scaling.distributed.devices import peak_flops
from scaling.distributed.ranks import rank, world_size
from scaling.models.dit import DiT
from scaling.stages.training_result import DiTTrainingResult
from scaling.training.batches import Budget, FlowBatches
from scaling.training.dit import DiTModule
from scaling.training.engine import prepare
from scaling.training.loop import WeightsCallback, fit

CHECKPOINTS = "checkpoints"
"""Folder of the checkpoints, in the folder of the stage."""
LEAST_CHECKPOINTS = 8
"""Number of checkpoints in the course of a run, at least."""


@dataclass(frozen=True)
class DiTTraining:
    """A training of a DiT that is ready for its first update."""

    folder: StageFolder
    stage: Stage
    data: LatentSet
    batches: FlowBatches
    budget: Budget
    module: DiTModule
    params: dict[str, int]
    """Number of parameters by group."""

    @classmethod
    def set_up(cls, folder: StageFolder, stage: Stage) -> "DiTTraining":
        """Sets up what the fields of a `trunk` or `dit` stage describe. The same seed gives the same first weights.

        Raises UserError where memory ran out with micro-batches of one clip.
        """
        fields = stage.fields_as(TrainingFields)
        data = LatentSet(folder.parent("latents").path, held_out=False, patch=fields.dit.patch)
        torch.manual_seed(fields.seed)
        model = DiT(fields.dit, data.channels, data.text_dim)
        params = model.count_params()
        prepare(model, model.blocks, stage.engine)
        longest = max(math.prod(grid) for grid in data.grids)
        batches = FlowBatches(
            data,
            fields.dit,
            fields.optim,
            fields.seed,
            rank=rank(),
            world_size=world_size(),
            micro_tokens=_micro_tokens(stage.engine, fields.optim, longest),
        )
        budget = batches.steps_within(fields.flop_budget)
        return cls(folder, stage, data, batches, budget, DiTModule(model, fields.optim, budget.steps), params)

    def run(
        self, events: Events, weights_callbacks: Mapping[int, WeightsCallback] | None = None, until: int | None = None
    ) -> float | None:
        """Trains to the last update, or to `until`; see `scaling.training.loop.fit`. Returns the median seconds of an
        update, or None if all updates had been done before."""
        if rank() == 0:
            peak = peak_flops()
            events.log(
                update_tokens=self.budget.num_tokens / self.budget.steps,
                update_flops=self.budget.train_flops / self.budget.steps,
                peak_flops=peak and peak * self.stage.engine.processes,
            )
        return fit(
            self.module,
            self.batches,
            self.folder.path / CHECKPOINTS,
            events,
            every=max(1, self.budget.steps // LEAST_CHECKPOINTS),
            weights_callbacks=weights_callbacks,
            until=until,
            start=self.folder.parent("trunk").path / CHECKPOINTS if "trunk" in self.stage.parents else None,
            engine=self.stage.engine,
        )

    def result(
        self, updates_done: int, update_seconds: float | None = None, *, diverged: bool = False
    ) -> DiTTrainingResult:
        """What the training reports. An attempt that found all updates done has measured no `update_seconds`; then the
        time that an earlier attempt measured counts."""
        if update_seconds is None and not diverged and DiTTrainingResult.path(self.folder).exists():
            update_seconds = DiTTrainingResult.load(self.folder).update_seconds
        return DiTTrainingResult(
            n_params=flops.non_embedding(self.params),
            n_params_total=sum(self.params.values()),
            unique_clips=len(self.data),
            unique_tokens=sum(math.prod(grid) for grid in self.data.grids),
            num_tokens=self.budget.num_tokens,
            train_flops=self.budget.train_flops,
            steps=self.budget.steps,
            warmup_steps=self.module.warmup_steps,
            decay_steps=self.module.decay_steps,
            updates_done=updates_done,
            diverged=diverged,
            update_seconds=update_seconds,
        )


def updates_of_trunk(folder: StageFolder, stage: Stage) -> int:
    """The number of updates of the trunk that the stage continues from; 0 where there is none."""
    if "trunk" not in stage.parents:
        return 0
    return read_record(folder.parent("trunk").record_path).steps or 0


def _micro_tokens(engine: EngineSpec, optim: OptimSpec, longest: int) -> int | None:
    """Most tokens of a micro-batch, halved once for every time that memory ran out; None where all tokens of a rank are
    one batch. `longest` is the number of tokens of the longest clip."""
    if engine.micro_batch_halvings == 0:
        return engine.micro_tokens
    tokens = engine.micro_tokens or math.ceil(optim.batch_tokens / world_size())
    if tokens / (1 << (engine.micro_batch_halvings - 1)) < longest:
        raise UserError(
            f"engine: memory runs out even for micro-batches of one clip of {longest} tokens; set "
            "checkpoint_activations, or sharding: shard, or use more or larger GPUs"
        )
    return math.ceil(tokens / (1 << engine.micro_batch_halvings))
