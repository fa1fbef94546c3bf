"""Stage `trunk`: the updates of a run before its learning rate falls, from which several runs continue. Makes
checkpoints and training.json.

One long training at a constant rate, branched into a decay at several lengths, gives several points of D for little
more than the cost of the longest (warmup-stable-decay, arXiv 2405.18392). A branch has the same bits as a run that was
trained alone.
"""

from scaling.core.errors import UserError
from scaling.core.events import Events
from scaling.core.records import RunRecord
from scaling.core.stage import Stage
from scaling.core.stage_fields import TrainingFields
from scaling.core.stage_folder import StageFolder
from scaling.distributed.devices import current_device
from scaling.distributed.group import process_group
from scaling.distributed.precision import current_precision
from scaling.distributed.ranks import rank
from scaling.stages import training_ranks
from scaling.stages.dit_training import DiTTraining, updates_of_trunk
from scaling.stages.training_result import DiTTrainingResult
from scaling.training.schedule import updates_before_decay


def train(folder: StageFolder, stage: Stage, events: Events) -> None:
    """What every rank does. The first rank writes the training's result.

    Raises UserError where the learning rate would still rise when it should fall.
    """
    with process_group():
        training = DiTTraining.set_up(folder, stage)
        module = training.module
        until = updates_before_decay(module.steps, module.decay_steps)
        if until < max(1, module.warmup_steps):
            raise UserError(
                f"optim.warmup_steps is {module.warmup_steps}, but the learning rate falls after {until} of "
                f"{module.steps} updates: lower it, or optim.decay_fraction, or raise base_flops"
            )
        update_seconds = training.run(events, until=until)
        if rank() == 0:
            training.result(until, update_seconds).save(folder)


def work(folder: StageFolder, stage: Stage, events: Events) -> RunRecord:
    """Trains."""
    fields = stage.fields_as(TrainingFields)
    training_ranks.train(folder, stage, events)
    result = DiTTrainingResult.load(folder)
    return RunRecord(
        run_id=stage.id,
        stage="trunk",
        vae_id=stage.parents["vae"],
        data_id=folder.parent("latents").stage().parents["data"],
        seed=fields.seed,
        flop_budget=fields.flop_budget,
        spent_flops=result.spent_flops(updates_of_trunk(folder, stage)),
        steps=result.updates_done,
        device=current_device().type,
        precision=current_precision(),
    )
