"""What the VAE's and the DiT's training share: two optimizers, a schedule, an average of the weights, exact resume."""

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
from scaling.distributed.ranks import ranks
from scaling.distributed.shards import shard
from scaling.training.checkpoints import Groups, optimizer_tensors, restore_optimizer
from scaling.training.optim import Muon, PowerEMA, schedule


@dataclass(frozen=True)
class Rates:
    """Peak learning rates and what belongs to them."""

    muon: float
    adamw: float
    wide: float = 1.0
    """Factor on AdamW's rate for matrices whose inputs are as many as the model is wide."""
    betas: tuple[float, float] = (0.9, 0.95)
    weight_decay: float = 0.0


class StepModule(lightning.LightningModule):
    """One update per batch, which comes as micro-batches. A subclass gives the model, says which matrices Muon trains,
    and computes the loss.

    The learning rate, the data and the noise of an update depend on (seed, step) alone, so a checkpoint is the weights,
    their averages, the optimizers' moments and the number of updates done. The losses of all micro-batches of all ranks
    add up to that of the update.
    """

    def __init__(
        self,
        model: nn.Module,
        *,
        rates: Rates,
        matrices: Mapping[nn.Parameter, int],
        wide: list[nn.Parameter],
        steps: int,
        warmup_steps: float,
        decay_steps: float,
        clip: float,
        ema_widths: Sequence[float],
    ) -> None:
        """`matrices` are Muon's, with how many each parameter holds; of AdamW's, `wide` have the smaller rate. `clip`
        is the largest gradient norm."""
        super().__init__()
        self.automatic_optimization = False
        self.model = model
        self.steps, self.done = steps, 0
        self.stopping = False
        """Whether any rank was asked to stop before the end of the latest update: the same answer on all of them."""
        self.warmup_steps, self.decay_steps, self.clip = warmup_steps, decay_steps, clip
        self.averages = {f"ema-{width:g}": PowerEMA(model, width) for width in ema_widths}
        taken = {id(parameter) for parameter in [*matrices, *wide]}
        rest = [parameter for parameter in model.parameters() if id(parameter) not in taken]
        self.optimizer_by_name: dict[str, torch.optim.Optimizer] = {}
        if matrices:
            self.optimizer_by_name["muon"] = Muon(matrices, lr=rates.muon, weight_decay=rates.weight_decay)
        groups = [{"params": rest, "lr": rates.adamw}, {"params": wide, "lr": rates.adamw * rates.wide}]
        self.optimizer_by_name["adamw"] = torch.optim.AdamW(
            [group for group in groups if group["params"]],
            betas=rates.betas,
            weight_decay=rates.weight_decay,
            fused=True,
        )
        self.peaks = [group["lr"] for group in self._groups()]

    @abstractmethod
    def loss(self, batch: Any, step: int) -> Tensor:
        """What a micro-batch of update `step` adds to its loss, a scalar. Every random number in it comes from (seed,
        step)."""

    @property
    def ema(self) -> PowerEMA:
        """The average that is measured and sampled."""
        return next(iter(self.averages.values()))

    def on_fit_start(self) -> None:
        """The averages follow the model to its device."""
        for average in self.averages.values():
            average.weights = {name: value.to(self.device) for name, value in average.weights.items()}

    def configure_model(self) -> None:
        """Lightning asks for this where ranks divide the model, which `scaling.training.engine` has done by then."""

    def configure_optimizers(self) -> Any:
        return list(self.optimizer_by_name.values())

    def transfer_batch_to_device(self, batch: Any, device: torch.device, dataloader_idx: int) -> Any:
        """The loss moves what it needs; Lightning would refuse a frozen batch."""
        return batch

    def training_step(self, batch: list[Any], batch_idx: int) -> Tensor:
        """One update. Raises DivergedError where the loss is not finite."""
        factor = schedule(self.done, self.steps, self.warmup_steps, self.decay_steps)
        for group, peak in zip(self._groups(), self.peaks, strict=True):
            group["lr"] = peak * factor
        total = torch.zeros((), device=self.device)
        for number, (part, weight) in enumerate(parts := self._parts(batch), start=1):
            with self._exchange(number == len(parts)):
                loss = self.loss(part, self.done) * weight
                self.manual_backward(loss * ranks())  # ranks take the mean of their gradients
            total += loss.detach()
        asked = torch.tensor(float(signals.requested()), device=self.device)
        total, stopping = sum_over_ranks(torch.stack([total, asked]))
        self.stopping = bool(stopping)
        if not torch.isfinite(total):
            raise DivergedError(total.item(), self.done, " and ".join(f"{peak:g}" for peak in self.peaks))
        nn.utils.clip_grad_norm_(self.model.parameters(), self.clip)
        for optimizer in self.optimizer_by_name.values():
            optimizer.step()
            optimizer.zero_grad()
        self.done += 1
        for average in self.averages.values():
            average.update(self.model, self.done)
        return total

    def _parts(self, batch: list[Any]) -> list[tuple[Any, float]]:
        """Micro-batches and what they weigh. Ranks that divide the model gather its weights in every forward, so they
        have to do equally many: who has fewer does the last again, for nothing."""
        missing = 0
        if isinstance(self.model, FSDPModule):
            missing = int(all_gather(torch.tensor([len(batch)])).max()) - len(batch)
        return [(part, 1.0) for part in batch] + [(batch[-1], 0.0)] * missing

    @contextmanager
    def _exchange(self, last: bool) -> Iterator[None]:
        """Ranks exchange gradients in the backward pass of the last micro-batch alone."""
        strategy = self.trainer.strategy
        if isinstance(self.model, FSDPModule):
            self.model.set_requires_gradient_sync(last)
            yield
        elif last or not isinstance(strategy, ParallelStrategy):
            yield
        else:
            with strategy.block_backward_sync():
                yield

    def _groups(self) -> list[dict[str, Any]]:
        return [group for optimizer in self.optimizer_by_name.values() for group in optimizer.param_groups]

    def state(self) -> Groups:
        """Everything that the next update depends on, besides the spec and the number of updates done."""
        return {
            "weights": {name: p.detach() for name, p in self.model.named_parameters()},
            **{name: average.weights for name, average in self.averages.items()},
            **{name: optimizer_tensors(optimizer) for name, optimizer in self.optimizer_by_name.items()},
        }

    def restore(self, step: int, groups: Groups) -> None:
        """Puts back what `state` gave after `step` updates, as whole tensors."""
        self.done = step
        patterns = dict(self.model.named_parameters())
        weights = {name: shard(groups["weights"][name], pattern) for name, pattern in patterns.items()}
        self.model.load_state_dict(weights)
        for name, average in self.averages.items():  # files sort their names, the average keeps the model's order
            average.weights = {key: shard(groups[name][key], pattern) for key, pattern in patterns.items()}
        for name, optimizer in self.optimizer_by_name.items():
            restore_optimizer(optimizer, groups[name])
