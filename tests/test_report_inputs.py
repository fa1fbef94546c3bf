"""The page of an output folder: what is gathered from runs, and what is named as missing."""

import json
from pathlib import Path

import pytest

from analysis.forecast.record import Band, Forecast, LawCheck
from scaling.cli.main import main
from scaling.core.errors import UserError
from scaling.core.records import Metric, RunRecord, read_record, write_record
from scaling.core.specs import DiTSpec, EvalSpec, OptimSpec, VAESpec, VAETrainSpec
from scaling.core.stage import Stage
from scaling.core.stage_fields import DiTFields, VAEFields
from scaling.core.stage_folder import StageFolder
from scaling.core.store import write_document
from sweeps.report_inputs import collect
from tests.report_page import COMPUTE, write_clip


def write_output(out: Path, runs: int = 2) -> list[str]:
    """An output folder with a VAE and `runs` finished runs of three columns; the others are only named."""
    folder = StageFolder.create(
        out / "runs", Stage(slug="vae", fields=VAEFields(vae=VAESpec(), train=VAETrainSpec()), parents={})
    )
    vae_id = folder.stage().id
    psnr = Metric(name="psnr", value=30.0, n=64)
    write_record(folder.record_path, RunRecord(run_id=vae_id, stage="vae", metrics=(psnr,)))
    measured, rfvd = out / "runs" / "reconstruction", Metric(name="rfvd", value=400.0, n=48)
    write_record(
        measured / "record.json",
        RunRecord(run_id="reconstruction", stage="reconstruction", parents={"vae": vae_id}, metrics=(rfvd,)),
    )
    StageFolder(measured).finish()
    for name in ("original-00.mp4", "decoded-00.mp4"):
        write_clip(folder.path / "reconstructions" / name)
    folder.finish()
    ids = []
    for n, compute in zip((1, 4, 32), COMPUTE, strict=True):
        fields = DiTFields(
            dit=DiTSpec(), optim=OptimSpec(), evaluation=EvalSpec(sample_at=(0.5, 1.0)), flop_budget=1e12 * n
        )
        stage = Stage(slug=f"dit-{compute}", fields=fields, parents={"vae": vae_id}, sweep="demo", multiple=n)
        ids.append(stage.id)
        if len(ids) > runs:
            continue
        folder = StageFolder.create(out / "runs", stage)
        loss = Metric(name="val_loss", value=0.7, standard_error=0.01)
        record = RunRecord(
            run_id=stage.id,
            stage="dit",
            sweep="demo",
            multiple=n,
            vae_id=vae_id,
            n_params=100 * n,
            num_tokens=1000,
            flop_budget=1e12 * n,
            train_flops=1e12 * n,
            metrics=(loss,),
        )
        write_record(folder.record_path, record)
        write_clip(folder.path / "samples" / "at-0.5" / "00.mp4")
        write_clip(folder.path / "samples" / "at-1" / "00.mp4")
        write_document(folder.path / "samples" / "prompts.json", [{"text": "a ball falls", "seed": 0}])
        folder.finish()
        write_record(
            out / "runs" / f"metrics-{compute}" / "record.json",
            RunRecord(
                run_id=f"metrics-{compute}",
                stage="metrics",
                parents={"dit": stage.id},
                metrics=(Metric(name="fvd", value=500.0, n=48),),
            ),
        )
        StageFolder(out / "runs" / f"metrics-{compute}").finish()
    write_document(out / "columns.json", [{"compute": c, "run_id": i} for c, i in zip(COMPUTE, ids, strict=True)])
    return ids


def planted_forecast(run_ids: list[str]) -> Forecast:
    """A forecast on record; its numbers are made up."""
    return Forecast(
        target_flops=3.2e13,
        n_params=900,
        n_params_low=800,
        n_params_high=1000,
        num_tokens=1e3,
        val_loss=0.6,
        low=0.5,
        high=0.7,
        level=0.9,
        noise=0.01,
        a=0.5,
        b=0.5,
        forms=(),
        law=LawCheck(E=0.1, A=1, B=1, alpha=0.3, beta=0.3, status="converged", reason="", n_params=900),
        optima=(),
        band=Band(flops=(1e12, 3.2e13), n_params=(1e5, 6e5), val_loss=(0.7, 0.6), low=(0.68, 0.5), high=(0.72, 0.7)),
        backtest=None,
        refusals=(),
        run_ids=tuple(run_ids),
        vae_id=None,
        seed=0,
    )


def test_collect_joins_runs_metrics_and_clips(tmp_path: Path) -> None:
    ids = write_output(tmp_path)
    write_document(tmp_path / "prediction.json", planted_forecast(ids).to_document())
    write_document(
        tmp_path / "outcome.json", {"measured": 0.61, "relative_error": -0.02, "inside": True, "n_params": 1}
    )
    data = collect(tmp_path, commands=("scaling demo",))
    assert [run.run_id for run in data.runs] == ids[:2]
    assert data.runs[0].value("fvd") == 500.0
    assert data.fractions == (0.5, 1.0)
    assert [clip.reason for clip in data.clips] == [""] * 4 + ["this run has not started"] * 2
    assert data.prediction is not None
    assert (data.prediction.n_params, data.prediction.measured) == (900, 0.61)
    assert [figure.path.suffix for figure in data.figures] == [".svg", ".svg"]
    assert data.vae is not None
    assert len(data.vae.pairs) == 1
    assert [(metric.name, metric.value) for metric in data.vae.run.metrics] == [("psnr", 30.0), ("rfvd", 400.0)]
    assert data.recipe is not None
    assert data.recipe.commands[0] == "scaling demo"


def test_a_run_that_diverged_is_on_the_page_and_in_no_law(tmp_path: Path) -> None:
    ids = write_output(tmp_path)
    record = read_record(tmp_path / "runs" / ids[0] / "record.json")
    diverged = record.replace(run_id="dit-diverged", metrics=(), diverged_at=7)
    write_record(tmp_path / "runs" / "dit-diverged" / "record.json", diverged)
    StageFolder(tmp_path / "runs" / "dit-diverged").finish()
    write_document(tmp_path / "prediction.json", planted_forecast(ids).to_document())
    data = collect(tmp_path)
    assert {run.run_id: run.diverged_at for run in data.runs} == {ids[0]: None, ids[1]: None, "dit-diverged": 7}
    assert len(data.figures) == 2


def test_collect_says_why_something_is_missing(tmp_path: Path) -> None:
    ids = write_output(tmp_path, runs=2)
    (tmp_path / "runs" / ids[1] / "COMPLETE").unlink()
    (tmp_path / "runs" / ids[0] / "samples" / "at-0.5" / "00.mp4").unlink()
    data = collect(tmp_path)
    assert [clip.reason for clip in data.clips] == [
        "no at-0.5/00.mp4",
        "",
        *["this run has not finished"] * 2,
        *["this run has not started"] * 2,
    ]
    assert "prediction.json" in data.missing["prediction"]


def test_columns_of_other_prompts_do_not_compare(tmp_path: Path) -> None:
    ids = write_output(tmp_path)
    write_document(tmp_path / "runs" / ids[1] / "samples" / "prompts.json", [{"text": "a ball falls", "seed": 1}])
    with pytest.raises(UserError, match="different prompts or seeds"):
        collect(tmp_path)


def test_column_may_not_point_outside(tmp_path: Path) -> None:
    write_output(tmp_path)
    write_document(tmp_path / "columns.json", [{"compute": "base", "run_id": "../../etc"}])
    with pytest.raises(UserError, match=r"columns\.json: column 0: run_id"):
        collect(tmp_path)


def test_verb_writes_the_page(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_output(tmp_path)
    assert main(["report", str(tmp_path), "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert Path(result["page"]).is_file()
    assert (result["runs"], result["clips"], result["missing_clips"]) == (2, 4, 2)


def test_folder_without_runs_is_a_users_mistake(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no such folder of runs"):
        collect(tmp_path / "nowhere")
