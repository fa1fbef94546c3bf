"""Stage `trunk`: the updates of a run before its rate falls, for several runs to go on from. Makes a checkpoint alone.

One long training at a constant rate, branched into a decay at several lengths, gives several points of D for little
more than the longest (warmup-stable-decay, arXiv 2405.18392). A branch has the same bits as the run that never left it.
"""

from scaling.core.errors import UserError
from scaling.core.records import RunRecord, read_record
from scaling.core.stage import Events, Stage, StageFolder, TrainingFields
from scaling.distributed.devices import current_device
from scaling.distributed.group import process_group
from scaling.stages.dit import Training
from scaling.stages.run import train_together
from scaling.training.optim import updates_before_decay


def train(folder: StageFolder, stage: Stage, events: Events) -> None:
    """What every rank of a trunk does."""
    with process_group():
        training = Training.of(folder, stage)
        training.run(folder, events, until=_until(training))


def work(folder: StageFolder, stage: Stage, events: Events) -> RunRecord:
    """Raises UserError where the rate still rises when it should fall."""
    fields = stage.fields_as(TrainingFields)
    training = Training.of(folder, stage)
    module, budget, until = training.module, training.budget, _until(training)
    if until < max(1, module.warmup_steps):
        raise UserError(
            f"optim.warmup_steps is {module.warmup_steps}, but the rate falls after {until} of {module.steps} updates: "
            "lower it, or optim.decay_fraction, or raise base_flops"
        )
    before = read_record(folder.parent("trunk").record_path).steps or 0 if training.start else 0
    train_together(folder, stage, events)
    return RunRecord(
        run_id=stage.id,
        stage="trunk",
        vae_id=stage.parents["vae"],
        data_id=folder.parent("latents").stage().parents["data"],
        seed=fields.seed,
        flop_budget=fields.flop_budget,
        spent_flops=budget.train_flops * (until - before) / budget.steps,
        steps=until,
        device=current_device().type,
    )


def _until(training: Training) -> int:
    return updates_before_decay(training.module.steps, training.module.decay_steps)
