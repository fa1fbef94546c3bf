"""The update that the training of the VAE and of the DiT share: two optimizers, a learning-rate schedule, averages of
the weights, and the state from which training resumes exactly. The loop over the updates is in `scaling.training.loop`.
"""

from abc import abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import lightning
import torch
from lightning.pytorch.strategies import ParallelStrategy
from torch import Tensor, nn
from torch.distributed.fsdp import FSDPModule

from scaling.core import signals
from scaling.core.errors import DivergedError
from scaling.distributed.group import all_gather, sum_over_ranks
from scaling.distributed.ranks import world_size
from scaling.distributed.shards import shard
from scaling.training.checkpoints import Groups, optimizer_tensors, restore_optimizer
from scaling.training.muon import Muon
from scaling.training.schedule import schedule
from scaling.training.weight_average import PowerEMA


@dataclass(frozen=True)
class OptimizerSettings:
    """The settings of the two optimizers."""

    muon_lr: float
    """Muon's peak learning rate."""
    adamw_lr: float
    """AdamW's peak learning rate."""
    output_lr_factor: float = 1.0
    """Factor on AdamW's learning rate for the output matrices, in the sense of muP (arXiv 2203.03466): those whose
    number of inputs grows with the model's width."""
    betas: tuple[float, float] = (0.9, 0.95)
    """AdamW's betas."""
    weight_decay: float = 0.0
    """The weight decay of both optimizers."""


class StepModule(lightning.LightningModule):
    """A LightningModule that does one update for each batch, which is a list of micro-batches. A subclass provides the
    model and the matrices that Muon trains, and computes the loss.

    The learning rate, the data and the noise of an update depend only on (seed, step). So a checkpoint consists of the
    weights, their averages, the optimizers' moments and the number of updates done. The losses of all micro-batches of
    all ranks add up to the loss of the update.
    """

    def __init__(
        self,
        model: nn.Module,
        *,
        settings: OptimizerSettings,
        muon_matrices: Mapping[nn.Parameter, int],
        output_matrices: list[nn.Parameter],
        steps: int,
        warmup_steps: float,
        decay_steps: float,
        max_grad_norm: float,
        ema_widths: Sequence[float],
    ) -> None:
        """`muon_matrices` maps each parameter that Muon trains to the number of matrices that it holds. AdamW trains
        the others; of these, `output_matrices` have a learning rate of their own."""
        super().__init__()
        self.automatic_optimization = False
        self.model = model
        self.steps, self.done = steps, 0
        self.stopping = False
        """Whether any rank had received a signal to stop by the end of the latest update. It is the same on all
        ranks."""
        self.warmup_steps, self.decay_steps, self.max_grad_norm = warmup_steps, decay_steps, max_grad_norm
        self.averages = {f"ema-{width:g}": PowerEMA(model, width) for width in ema_widths}
        assigned = {id(parameter) for parameter in [*muon_matrices, *output_matrices]}
        others = [parameter for parameter in model.parameters() if id(parameter) not in assigned]
        self.optimizer_by_name: dict[str, torch.optim.Optimizer] = {}
        if muon_matrices:
            self.optimizer_by_name["muon"] = Muon(
                muon_matrices, lr=settings.muon_lr, weight_decay=settings.weight_decay
            )
        output_lr = settings.adamw_lr * settings.output_lr_factor
        groups = [{"params": others, "lr": settings.adamw_lr}, {"params": output_matrices, "lr": output_lr}]
        self.optimizer_by_name["adamw"] = torch.optim.AdamW(
            [group for group in groups if group["params"]],
            betas=settings.betas,
            weight_decay=settings.weight_decay,
            fused=True,
        )
        self.peak_lrs = [group["lr"] for group in self._param_groups()]

    @abstractmethod
    def loss(self, batch: Any, step: int) -> Tensor:
        """The part of the loss of update `step` that a micro-batch contributes, a scalar. Everything random in it
        depends only on (seed, step)."""

    @property
    def ema(self) -> PowerEMA:
        """The first average, with which the model is evaluated."""
        return next(iter(self.averages.values()))

    def on_fit_start(self) -> None:
        """Moves the averages to the device of the model."""
        for average in self.averages.values():
            average.weights = {name: value.to(self.device) for name, value in average.weights.items()}

    def configure_model(self) -> None:
        """Does nothing. Lightning requires this method of a model that is sharded among ranks, and
        `scaling.training.engine` has sharded it before."""

    def configure_optimizers(self) -> list[torch.optim.Optimizer]:
        """All optimizers, for Lightning."""
        return list(self.optimizer_by_name.values())

    def transfer_batch_to_device(self, batch: Any, device: torch.device, dataloader_idx: int) -> Any:
        """Leaves the batch as it is: the loss moves the tensors that it needs, and Lightning cannot move a frozen
        dataclass."""
        return batch

    def training_step(self, batch: list[Any], batch_idx: int) -> Tensor:
        """Does one update and returns its loss. Raises DivergedError if the loss is not finite."""
        factor = schedule(self.done, self.steps, self.warmup_steps, self.decay_steps)
        for group, peak_lr in zip(self._param_groups(), self.peak_lrs, strict=True):
            group["lr"] = peak_lr * factor
        total = torch.zeros((), device=self.device)
        weighted = self._weighted_micro_batches(batch)
        for number, (micro_batch, weight) in enumerate(weighted, start=1):
            with self._gradient_sync(number == len(weighted)):
                loss = self.loss(micro_batch, self.done) * weight
                self.manual_backward(loss * world_size())  # DDP and FSDP2 average gradients, but we need their sum
            total += loss.detach()
        stop_requested = torch.tensor(float(signals.requested()), device=self.device)
        total, stop_requests = sum_over_ranks(torch.stack([total, stop_requested])).unbind()
        self.stopping = bool(stop_requests)
        if not torch.isfinite(total):
            raise DivergedError(total.item(), self.done, " and ".join(f"{lr:g}" for lr in self.peak_lrs))
        nn.utils.clip_grad_norm_(self.model.parameters(), self.max_grad_norm)
        for optimizer in self.optimizer_by_name.values():
            optimizer.step()
            optimizer.zero_grad()
        self.done += 1
        for average in self.averages.values():
            average.update(self.model, self.done)
        return total

    def _weighted_micro_batches(self, batch: list[Any]) -> list[tuple[Any, float]]:
        """The micro-batches and the weights of their losses. Ranks with a sharded model gather its weights in every
        forward pass, so all of them need the same number of passes: a rank with fewer micro-batches repeats its last
        one with weight 0."""
        missing = 0
        if isinstance(self.model, FSDPModule):
            missing = int(all_gather(torch.tensor([len(batch)])).max()) - len(batch)
        return [(micro_batch, 1.0) for micro_batch in batch] + [(batch[-1], 0.0)] * missing

    @contextmanager
    def _gradient_sync(self, last: bool) -> Iterator[None]:
        """Makes the ranks exchange gradients only in the backward pass of the last micro-batch."""
        strategy = self.trainer.strategy
        if isinstance(self.model, FSDPModule):
            self.model.set_requires_gradient_sync(last)
            yield
        elif last or not isinstance(strategy, ParallelStrategy):
            yield
        else:
            with strategy.block_backward_sync():
                yield

    def _param_groups(self) -> list[dict[str, Any]]:
        return [group for optimizer in self.optimizer_by_name.values() for group in optimizer.param_groups]

    def state(self) -> Groups:
        """Everything that the next update depends on, except the spec and the number of updates done."""
        return {
            "weights": {name: p.detach() for name, p in self.model.named_parameters()},
            **{name: average.weights for name, average in self.averages.items()},
            **{name: optimizer_tensors(optimizer) for name, optimizer in self.optimizer_by_name.items()},
        }

    def restore(self, step: int, groups: Groups) -> None:
        """Restores what `state` returned after `step` updates, from full tensors."""
        self.done = step
        parameters = dict(self.model.named_parameters())
        weights = {name: shard(groups["weights"][name], parameter) for name, parameter in parameters.items()}
        self.model.load_state_dict(weights)
        for name, average in self.averages.items():  # in the model's order, because files are sorted by name
            average.weights = {key: shard(groups[name][key], parameter) for key, parameter in parameters.items()}
        for name, optimizer in self.optimizer_by_name.items():
            restore_optimizer(optimizer, groups[name])
