"""What the VAE's and the DiT's training share: two optimisers, a schedule, an average of the weights, exact resume."""

from abc import abstractmethod
from typing import Any

import lightning
import torch
from torch import Tensor, nn

from scaling.errors import UserError
from scaling.optim import Muon, PowerEMA, schedule
from scaling.training.checkpoints import Groups, optimiser_tensors, restore_optimiser


class StepModule(lightning.LightningModule):
    """One update per batch. A subclass gives the model, says which matrices Muon trains, and computes the loss.

    The learning rate, the data and the noise of an update depend on (seed, step) alone, so a checkpoint is the weights,
    their average, the optimisers' moments and the number of updates done.
    """

    def __init__(
        self,
        model: nn.Module,
        matrices: list[nn.Parameter],
        *,
        steps: int,
        rates: tuple[float, float],
        warmup: float,
        decay: float,
        clip: float,
        ema_width: float,
        betas: tuple[float, float],
        weight_decay: float = 0.0,
    ) -> None:
        """`rates` are the peak learning rates of Muon and AdamW; `warmup` and `decay` are shares of the steps."""
        super().__init__()
        self.automatic_optimization = False
        self.model = model
        self.steps, self.done = steps, 0
        self.rates, self.warmup, self.decay, self.clip = rates, warmup, decay, clip
        self.ema = PowerEMA(model, ema_width)
        owned = {id(parameter) for parameter in matrices}
        rest = [parameter for parameter in model.parameters() if id(parameter) not in owned]
        self.muon = Muon(matrices, lr=rates[0], weight_decay=weight_decay)
        self.adamw = torch.optim.AdamW(rest, lr=rates[1], betas=betas, weight_decay=weight_decay, fused=True)

    @abstractmethod
    def loss(self, batch: Any, step: int) -> Tensor:
        """The loss of update `step`, a scalar. Every random number in it comes from (seed, step)."""

    def on_fit_start(self) -> None:
        """The average follows the model to its device."""
        self.ema.weights = {name: value.to(self.device) for name, value in self.ema.weights.items()}

    def configure_optimizers(self) -> Any:
        return [self.muon, self.adamw]

    def transfer_batch_to_device(self, batch: Any, device: torch.device, dataloader_idx: int) -> Any:
        """The loss moves what it needs; Lightning would refuse a frozen batch."""
        return batch

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        """One update. Raises UserError where the loss is not finite: the rates are the user's."""
        factor = schedule(self.done, self.steps, self.warmup, self.decay)
        for optimiser, rate in zip((self.muon, self.adamw), self.rates, strict=True):
            optimiser.param_groups[0]["lr"] = rate * factor
        loss = self.loss(batch, self.done)
        if not torch.isfinite(loss):
            raise UserError(
                f"the loss is {loss.item()} after {self.done} updates: lower muon_lr {self.rates[0]:g} or "
                f"adamw_lr {self.rates[1]:g}"
            )
        self.manual_backward(loss)
        nn.utils.clip_grad_norm_(self.model.parameters(), self.clip)
        for optimiser in (self.muon, self.adamw):
            optimiser.step()
            optimiser.zero_grad()
        self.done += 1
        self.ema.update(self.model, self.done)
        return loss.detach()

    def state(self) -> Groups:
        """Everything that the next update depends on, besides the spec and the number of updates done."""
        return {
            "weights": {name: p.detach() for name, p in self.model.named_parameters()},
            "ema": self.ema.weights,
            "muon": optimiser_tensors(self.muon),
            "adamw": optimiser_tensors(self.adamw),
        }

    def restore(self, step: int, groups: Groups) -> None:
        """Puts back what `state` gave after `step` updates."""
        self.done = step
        self.model.load_state_dict(groups["weights"])
        self.ema.weights = {name: groups["ema"][name] for name in self.ema.weights}  # files sort their names
        restore_optimiser(self.muon, groups["muon"])
        restore_optimiser(self.adamw, groups["adamw"])
