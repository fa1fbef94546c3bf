"""Finished stages whose losses are planted: what a sweep leaves behind, without any training."""

from collections.abc import Callable, Sequence
from pathlib import Path

from scaling.accounting import flops
from scaling.core.records import Metric, RunRecord, write_record
from scaling.core.specs import OptimSpec
from scaling.core.stage import Stage
from scaling.core.stage_fields import DiTFields
from scaling.core.stage_folder import StageFolder

Loss = Callable[[float, float, OptimSpec], float | None]
"""Of N, of C and of the rates; None is a run that diverged."""

TOKEN_FLOPS = 7.0


def law(N: float, C: float, _: OptimSpec) -> float:
    """A valley over N at every compute."""
    return 0.3 + 2.0 * N**-0.15 + 40.0 * (C / (TOKEN_FLOPS * N)) ** -0.4


def complete(stages: Sequence[Stage], runs: Path, loss: Loss = law) -> list[str]:
    """Finishes every stage that is not complete, as training would. Returns the ids of those."""
    done = []
    for stage in stages:
        folder = StageFolder.create(runs, stage)
        if folder.complete:
            continue
        write_record(folder.record_path, _record(stage, loss))
        folder.finish()
        done.append(stage.id)
    return done


def _record(stage: Stage, loss: Loss) -> RunRecord:
    record = RunRecord(
        run_id=stage.id,
        stage=stage.kind,
        **stage.label.model_dump(),
        parents=stage.parents,
        vae_id=stage.parents.get("vae"),
    )
    if stage.kind == "metrics":
        return record.replace(metrics=(Metric(name="fvd", value=700.0, n=48),))
    if stage.kind != "dit":
        return record
    fields = stage.fields_as(DiTFields)
    N, C = flops.non_embedding(flops.dit_params(fields.dit, 8)), fields.flop_budget
    value = loss(N, C, fields.optim)
    metrics = () if value is None else (Metric(name="val_loss", value=value, standard_error=0.001, n=16),)
    numbers = {"n_params": N, "num_tokens": round(C / (TOKEN_FLOPS * N)), "train_flops": C, "flop_budget": C}
    return record.replace(**numbers, metrics=metrics)
