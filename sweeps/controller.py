"""Says what a sweep needs next, and what it came to.

Whoever runs stages asks for the next ones, brings them to COMPLETE, and asks again: `scaling run` on this machine, a
job on a cluster. Nothing is kept between two questions but files, so that they can come from different processes, and
from one that starts after another was killed. The light work between phases (`sweeps.measured_choices`) is done here;
training and measuring are not.
"""

from dataclasses import dataclass
from pathlib import Path

from analysis.forecast.record import compare
from scaling.core.errors import UserError
from scaling.core.stage import Stage
from scaling.core.stage_folder import StageFolder
from scaling.core.store import write_document
from sweeps.measured_choices import MeasuredChoices
from sweeps.phases import Phase, phases, stages_of
from sweeps.report_inputs import write_report
from sweeps.result import LadderResult, ResultColumn, StudyResult, SweepResult
from sweeps.spec import StudySpec, SweepSpec
from sweeps.stages import StageBuilder
from sweeps.study_rows import study_rows


@dataclass(frozen=True)
class ReadyStages:
    """Stages that can be run without knowing more, parents first."""

    title: str
    stages: list[Stage]
    """All that are known, complete or not."""


class Controller:
    """The controller of one sweep in one output folder."""

    def __init__(self, sweep: SweepSpec | StudySpec, out: Path, stages: StageBuilder | None = None) -> None:
        """`stages`: a builder that has hashed the user's folders already."""
        self.sweep, self.out = sweep, out
        self.stages = stages or StageBuilder.for_sweep(sweep)

    def next(self) -> ReadyStages | None:
        """Stages to bring to COMPLETE, or None where nothing is left to run.

        Asked again it answers the same, until these stages are complete. The rates are on disk, as tuning.json, before
        the ladder is known, and the forecast, as prediction.json, before the target.
        Raises UserError where the runs carry no forecast, or where all runs of a column, or the target, diverged.
        """
        while True:
            known, choices = self._known()
            missing = [stage for stage in stages_of(known).values() if not self._is_complete(stage)]
            if missing:
                return ReadyStages(self._title(known), list(stages_of(known).values()))
            for stage in stages_of(known).values():  # another sweep may have run them before: they take its labels
                StageFolder.create(self.out / "runs", stage)
            if not choices.waits:
                return None

    def finish(self, commands: tuple[str, ...]) -> SweepResult:
        """Writes what the sweep came to, and the report. `commands` are the lines that a reader of the report would
        repeat. Raises UserError where a stage is not complete."""
        known, choices = self._known()
        for stage in stages_of(known).values():
            if not self._is_complete(stage):
                raise UserError(f"{self.out}: {stage.id} is not complete; run the sweep to its end first")
        if isinstance(self.sweep, StudySpec):
            return self._finish_study(self.sweep, choices, commands)
        return self._finish_ladder({phase.name: phase for phase in known}, choices, commands)

    def _finish_study(self, sweep: StudySpec, choices: MeasuredChoices, commands: tuple[str, ...]) -> StudyResult:
        rows = study_rows([choices.record(self.stages.run(run)) for run in sweep.runs])
        page, _ = write_report(self.out, self.out / "report", commands)
        result = StudyResult(rows, page)
        write_document(self.out / "study.json", result.to_document())
        return result

    def _finish_ladder(
        self, known: dict[str, Phase], choices: MeasuredChoices, commands: tuple[str, ...]
    ) -> LadderResult:
        """Compares the forecast with the target; writes outcome.json and columns.json."""
        assert choices.forecast is not None
        measures = [*known["metrics"].stages, *known["target metrics"].stages]
        trained = {stage.id: stage for name in ("training", "target") for stage in known[name].stages}
        compared = [trained[measure.parents["dit"]] for measure in measures]
        comparison = compare(choices.forecast, choices.record(compared[-1]))
        write_document(self.out / "outcome.json", comparison.model_dump(mode="json"))
        columns = [
            ResultColumn(choices.record(run), choices.record(measure).value("fvd"))
            for run, measure in zip(compared, measures, strict=True)
        ]
        write_document(self.out / "columns.json", [{"compute": c.run.compute, "run_id": c.run.run_id} for c in columns])
        page, _ = write_report(self.out, self.out / "report", commands)
        return LadderResult(columns, choices.forecast, comparison.measured, page)

    def _known(self) -> tuple[list[Phase], MeasuredChoices]:
        """The phases that are known, and the choices that say whether there are more."""
        choices = MeasuredChoices(self.out)
        return list(phases(self.sweep, self.stages, choices)), choices

    def _title(self, known: list[Phase]) -> str:
        """The sweep and the phase that decides what comes after the known ones."""
        last = [phase for phase in known if phase.stages][-1]
        return f"{self.sweep.name}: {last.name}" + (f", {last.note}" if last.note else "")

    def _is_complete(self, stage: Stage) -> bool:
        return StageFolder(self.out / "runs" / stage.id).complete
