"""The rounds of a sweep: which stages are known now, because of what earlier ones found.

    common, trials -> rates -> trunks, ladder -> forecast -> target, metrics of the best -> its metrics -> report

Whoever runs stages asks for the next round, brings its stages to COMPLETE, and asks again: `scaling run` on this
machine, a job on a cluster. Nothing is kept between two questions but files, so that they can come from different
processes, and from one that starts after another was killed. The light work between rounds is done here; training and
measuring are not.
"""

import math
from collections.abc import Generator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from analysis.forecast.forecast import forecast
from analysis.forecast.record import Forecast, compare
from scaling.accounting import flops
from scaling.core.errors import UserError
from scaling.core.records import RunRecord, Trial, read_record, training_table
from scaling.core.specs import parse_spec
from scaling.core.stage import Stage, StageFolder
from scaling.core.store import read_document, write_document
from sweeps.report_inputs import write_report
from sweeps.result import Column, Outcome
from sweeps.spec import SweepSpec
from sweeps.stages import Common, ladder_stages, metrics_stage, run_stage, trunk_stages
from sweeps.tuning import ask, choose, found, trial_stage, with_rates

if TYPE_CHECKING:
    import pandas


@dataclass(frozen=True)
class Round:
    """Stages that can be run without knowing more, parents first."""

    title: str
    stages: list[Stage]
    """All of the round, complete or not."""


@dataclass(frozen=True)
class Told:
    """What is known when every round is complete."""

    forecast: Forecast
    compared: list[Stage]
    """The best run at base and at 4x, and the target."""
    measures: list[Stage]
    """Their `metrics` stages."""


def next_round(sweep: SweepSpec, common: Common, out: Path) -> Round | None:
    """The first round with a stage that is not complete, or None where nothing is left to run.

    Asked again it answers the same, until that round's stages are complete. The rates are on disk, as tuning.json,
    before the round of the ladder is known, and the forecast, as prediction.json, before that of the target.
    Raises UserError where the runs carry no forecast, or where all runs of a compared budget, or the target, diverged.
    """
    for one in _rounds(sweep, common, out):
        if _missing(one, out):
            return one
        for stage in one.stages:  # complete ones take this sweep's labels: another may have run them before
            StageFolder.create(out / "runs", stage)
    return None


def finish(sweep: SweepSpec, common: Common, out: Path, commands: tuple[str, ...]) -> Outcome:
    """Compares the forecast with the target, and writes outcome.json, columns.json and the report. `commands` are the
    lines that a reader of the report would repeat.

    Raises UserError where a stage is not complete.
    """
    told, runs = _ending(sweep, common, out), out / "runs"
    *_, target = told.compared
    comparison = compare(told.forecast, _labelled(runs, target))
    write_document(out / "outcome.json", comparison.model_dump(mode="json"))
    columns = [
        Column(run.compute, _labelled(runs, run), _labelled(runs, measures).value("fvd"))
        for run, measures in zip(told.compared, told.measures, strict=True)
    ]
    write_document(out / "columns.json", [{"compute": c.compute, "run_id": c.run.run_id} for c in columns])
    page, _ = write_report(out, out / "report", commands)
    return Outcome(columns, told.forecast, comparison.measured, page)


def _rounds(sweep: SweepSpec, common: Common, out: Path) -> Generator[Round, None, Told]:
    """The story: each round, and, once it is complete, what follows from it. May be asked for more only then."""
    runs = out / "runs"
    sweep = yield from _tuned(sweep, common, out)
    ladder = ladder_stages(sweep, common)
    stages = [*common.stages(), *trunk_stages(sweep, common), *ladder]
    yield Round(f"{sweep.name}: up to {max(sweep.ladder)}x", stages)

    records = [_labelled(runs, stage) for stage in ladder]
    best = [_best(records, sweep.label(multiple)) for multiple in (1, 4)]
    foretold = _foretell(out, training_table(records), sweep)
    compared = [next(stage for stage in ladder if stage.id == record.run_id) for record in best]

    target = run_stage(sweep, common, sweep.target, _nearest_size(sweep, foretold.n_params))
    measures = [metrics_stage(sweep, common, stage) for stage in compared]
    yield Round(f"{sweep.name}: {sweep.target}x", [*measures, target, common.reconstruction])

    if _loss(_labelled(runs, target)) is None:
        raise UserError(
            f"{runs / target.id}: the {target.compute} run diverged, so nothing can be compared with the forecast; "
            "lower the learning rates (optim, or their ranges in tuning), or leave its size out of target_sizes"
        )
    after = metrics_stage(sweep, common, target)
    yield Round(f"{sweep.name}: metrics of {sweep.target}x", [after])
    return Told(foretold, [*compared, target], [*measures, after])


def _tuned(sweep: SweepSpec, common: Common, out: Path) -> Generator[Round, None, SweepSpec]:
    """The sweep at the rates that its trials lead to, after the rounds of the trials. Said once, and kept, as long as
    the same is asked."""
    path = out / "tuning.json"
    if said := found(sweep, common, path):
        return with_rates(sweep, said.chosen.rates)
    path.unlink(missing_ok=True)
    if sweep.tuning is None:
        return sweep
    trials: list[Trial] = []
    while asked := ask(sweep, trials):
        stages = [trial_stage(sweep, common, rates) for rates in asked]
        distinct = {stage.id: stage for stage in stages}
        title = f"{sweep.name}: tuning, {len(trials) + len(asked)} of {sweep.tuning.trials} trials"
        yield Round(title, [common.data, common.vae, common.latents, *distinct.values()])
        records = [_labelled(out / "runs", stage) for stage in stages]
        trials += [
            Trial(run_id=record.run_id, rates=rates, val_loss=_loss(record))
            for rates, record in zip(asked, records, strict=True)
        ]
    tuning = choose(sweep, trials)
    write_document(path, tuning.model_dump(mode="json"))
    return with_rates(sweep, tuning.chosen.rates)


def _ending(sweep: SweepSpec, common: Common, out: Path) -> Told:
    """Goes through all rounds, which must be complete."""
    rounds = _rounds(sweep, common, out)
    while True:
        try:
            one = next(rounds)
        except StopIteration as end:
            told: Told = end.value
            return told
        if missing := _missing(one, out):
            raise UserError(f"{out}: {missing[0].id} is not complete; run the sweep to its end first")


def _missing(one: Round, out: Path) -> list[Stage]:
    return [stage for stage in one.stages if not StageFolder(out / "runs" / stage.id).complete]


def _foretell(out: Path, table: "pandas.DataFrame", sweep: SweepSpec) -> Forecast:
    """The forecast from these runs: said once, before the target run, and kept. Other runs make another forecast, and
    what was compared with the old one goes. Raises UserError where too few runs have a loss."""
    path, target_flops = out / "prediction.json", sweep.base_flops * sweep.target
    diverged = table["val_loss"].isna()
    if path.exists():
        said = parse_spec(Forecast, read_document(path), str(path))
        if set(said.run_ids) == set(table["run_id"][~diverged]) and said.target_flops == target_flops:
            return said
    for stale in ("outcome.json", "columns.json"):
        (out / stale).unlink(missing_ok=True)
    try:
        foretold = forecast(table, target_flops, seed=sweep.seed)
    except UserError as problem:
        lost = ", ".join(table["run_id"][diverged])
        raise UserError(f"no forecast: {problem}" + (f"; these diverged: {lost}" if lost else "")) from None
    write_document(path, foretold.to_document())
    return foretold


def _labelled(runs: Path, stage: Stage) -> RunRecord:
    """The record of a complete stage under the labels of this sweep: another may have trained the same run before."""
    record = read_record(runs / stage.id / "record.json")
    return record.model_copy(update={"sweep": stage.sweep, "compute": stage.compute})


def _loss(record: RunRecord) -> float | None:
    """A run's validation loss; one that diverged has none."""
    return record.value("val_loss")


def _best(records: list[RunRecord], label: str) -> RunRecord:
    """The run of a budget with the lowest validation loss. Raises UserError where every one diverged."""
    reached = [(loss, record) for record in records if record.compute == label and (loss := _loss(record)) is not None]
    if not reached:
        raise UserError(
            f"every run of budget '{label}' diverged; lower the learning rates (optim, or their ranges in tuning)"
        )
    return min(reached, key=lambda pair: pair[0])[1]


def _nearest_size(sweep: SweepSpec, n_params: float) -> str:
    """The size among `target_sizes` whose N is nearest to the law's choice, by ratio."""

    def distance(name: str) -> float:
        count = flops.non_embedding(flops.dit_params(sweep.size(name), sweep.vae.latent_channels))
        return abs(math.log(count / n_params))

    return min(sweep.target_sizes, key=distance)
