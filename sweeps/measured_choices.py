"""The choices of a sweep, made from what its complete runs measured, and written down once.

tuning.json and prediction.json in the output folder keep them: who asks again, in another process or after a crash,
gets the same answer as long as the same runs are asked for.
"""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from analysis.forecast.forecast import forecast
from analysis.forecast.record import Forecast
from scaling.accounting import flops
from scaling.core.errors import UserError
from scaling.core.label import compute_name
from scaling.core.records import RunRecord, Trial, read_record, training_table
from scaling.core.specs import parse_spec
from scaling.core.stage import Stage
from scaling.core.stage_folder import StageFolder
from scaling.core.store import read_document, write_document
from sweeps.choices import LadderOutcome, TrainedRun, Trials, distinct
from sweeps.ladder import trial_run
from sweeps.spec import SweepSpec, sized
from sweeps.stages import StageBuilder
from sweeps.tuning import choose_rates, kept_tuning, next_trials

if TYPE_CHECKING:
    import pandas


class MeasuredChoices:
    """Choices by what has been measured, kept in the output folder: tuning.json and prediction.json."""

    def __init__(self, out: Path) -> None:
        self.out, self.runs = out, out / "runs"
        self.waits = False
        """Whether a question could not be answered, because a stage that it depends on is not complete."""
        self.forecast: Forecast | None = None
        """The forecast of the target, once it is made."""

    def trials(self, sweep: SweepSpec, stages: StageBuilder) -> Trials:
        path = self.out / "tuning.json"
        if kept := kept_tuning(sweep, stages, path):
            trained = [stages.run(trial_run(sweep, trial.rates), "tuning") for trial in kept.trials]
            return Trials(distinct(trained), kept.chosen.rates)
        path.unlink(missing_ok=True)
        trials: list[Trial] = []
        known: list[Stage] = []
        while next_rates := next_trials(sweep, trials):
            batch = [stages.run(trial_run(sweep, rates), "tuning") for rates in next_rates]
            known += batch
            if not self._all_complete(batch):
                return Trials(distinct(known), None)
            records = [self.record(stage) for stage in batch]
            trials += [
                Trial(run_id=record.run_id, rates=rates, val_loss=record.value("val_loss"))
                for rates, record in zip(next_rates, records, strict=True)
            ]
        tuning = choose_rates(sweep, trials)
        write_document(path, tuning.model_dump(mode="json"))
        return Trials(distinct(known), tuning.chosen.rates)

    def ladder_outcome(
        self, sweep: SweepSpec, stages: StageBuilder, ladder: Sequence[TrainedRun]
    ) -> LadderOutcome | None:
        """Raises UserError where every run of a compared budget diverged, or too few runs have a loss."""
        if not self._all_complete([trained_run.stage for trained_run in ladder]):
            return None
        records = {trained_run.stage.id: self.record(trained_run.stage) for trained_run in ladder}
        columns = tuple(_best(ladder, records, multiple) for multiple in sweep.compared)
        self.forecast = self._predict(sweep, training_table(list(records.values())))
        return LadderOutcome(_nearest_size(sweep, self.forecast.n_params), columns)

    def target_has_loss(self, sweep: SweepSpec, target: Stage) -> bool:
        if not self._all_complete([target]):
            return False
        if self.record(target).value("val_loss") is None:
            raise UserError(
                f"{self.runs / target.id}: the {target.compute} run diverged, so nothing can be compared with the "
                "forecast; lower the learning rates (optim, or their ranges in tuning), or leave its size out of "
                "target_sizes"
            )
        return True

    def record(self, stage: Stage) -> RunRecord:
        """The record of a complete stage under the labels of this sweep: another may have trained the same run."""
        return read_record(self.runs / stage.id / "record.json").replace(**stage.label.model_dump())

    def _all_complete(self, stages: Sequence[Stage]) -> bool:
        complete = all(StageFolder(self.runs / stage.id).complete for stage in stages)
        self.waits = self.waits or not complete
        return complete

    def _predict(self, sweep: SweepSpec, table: "pandas.DataFrame") -> Forecast:
        """The forecast from these runs: made once, before the target run, and kept. Other runs make another forecast,
        and the comparison with the old one is removed. Raises UserError where too few runs have a loss."""
        path, target_flops = self.out / "prediction.json", sweep.base_flops * sweep.target
        diverged = table["val_loss"].isna()
        if path.exists():
            kept = parse_spec(Forecast, read_document(path), str(path))
            if set(kept.run_ids) == set(table["run_id"][~diverged]) and kept.target_flops == target_flops:
                return kept
        for stale in ("outcome.json", "columns.json"):
            (self.out / stale).unlink(missing_ok=True)
        try:
            predicted = forecast(table, target_flops, seed=sweep.seed)
        except UserError as problem:
            lost = ", ".join(table["run_id"][diverged])
            raise UserError(f"no forecast: {problem}" + (f"; these diverged: {lost}" if lost else "")) from None
        write_document(path, predicted.to_document())
        return predicted


def _best(ladder: Sequence[TrainedRun], records: dict[str, RunRecord], multiple: float) -> TrainedRun:
    """The run of a budget with the lowest validation loss. Raises UserError where every one diverged."""
    with_loss = [
        (loss, trained_run)
        for trained_run in ladder
        if trained_run.run.multiple == multiple
        and (loss := records[trained_run.stage.id].value("val_loss")) is not None
    ]
    if not with_loss:
        raise UserError(
            f"every run of budget '{compute_name(multiple)}' diverged; lower the learning rates (optim, or their "
            "ranges in tuning)"
        )
    return min(with_loss, key=lambda pair: pair[0])[1]


def _nearest_size(sweep: SweepSpec, n_params: float) -> str:
    """The size among `target_sizes` whose N is nearest to the law's choice, by ratio."""

    def distance(name: str) -> float:
        count = flops.non_embedding(flops.dit_params(sized(sweep.dit, name), sweep.vae.latent_channels))
        return abs(math.log(count / n_params))

    return min(sweep.target_sizes, key=distance)
