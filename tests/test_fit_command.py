"""`scaling fit`, from a file on disk to what is printed, drawn or refused."""

import json
import re
from pathlib import Path
from typing import get_args

import numpy as np
import pandas as pd
import pytest

from analysis.laws.forms import LAWS
from scaling.cli import fit
from scaling.cli.main import main
from scaling.core.records import Metric, RunRecord, write_record
from tests.public_data import DATA, needs_data
from tests.test_law import PLANTED, planted
from tests.test_trust import isoflops


@pytest.fixture
def table(tmp_path: Path) -> Path:
    """A planted sweep of 36 runs with one ruined."""
    runs = planted(noise=0.005)
    losses = runs.metric.copy()
    losses[7] = 9.0
    columns = {"run_id": [f"r{i}" for i in range(36)], **runs.axes, "val_loss": losses, "lpips": runs.metric / 2}
    columns["fvd"] = 40 + 900 * columns["lpips"] ** 2
    pd.DataFrame(columns).to_csv(tmp_path / "runs.csv", index=False)
    return tmp_path / "runs.csv"


def printed(capsys: pytest.CaptureFixture[str], *arguments: object) -> dict:
    assert main(["--json" if a == "--json" else str(a) for a in (*arguments, "--json")]) == 0
    return json.loads(capsys.readouterr().out)


def test_a_fit_is_one_object(table: Path, capsys: pytest.CaptureFixture[str]) -> None:
    document = printed(capsys, "fit", table, "--drop-top", 1, "--law", "chinchilla")
    assert document["excluded"] == [{"run": "r7", "reason": "among the 1 highest of loss"}]
    assert (document["law"], document["n_points"], document["status"], document["reason"]) == (
        "chinchilla",
        35,
        "converged",
        "",
    )
    assert set(document["params"]) == {"E", "A", "B", "alpha", "beta"}
    assert set(document["intervals"]) == {*document["params"], "a", "b"}
    for name, value in document["params"].items():
        low, high = document["intervals"][name]
        assert low < value < high
    assert document["params"]["alpha"] == pytest.approx(PLANTED["alpha"], abs=0.03)
    assert document["a"] + document["b"] == pytest.approx(1)
    assert len(document["residuals"]) == len(document["runs"]) == 35
    assert sum(
        np.minimum(np.abs(r), 1e-3) * (abs(r) - min(abs(r), 1e-3) / 2) for r in document["residuals"]
    ) == pytest.approx(document["objective"])
    assert {variant["choice"] for variant in document["sensitivity"]} == {"outliers", "delta", "window"}
    assert document["bootstrap"] == {"method": "by run", "draws": 1000, "seed": 0}


def test_the_text_names_what_the_object_holds(table: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["fit", str(table), "--drop-top", "1"]) == 0
    text = capsys.readouterr().out
    for phrase in (
        "n_params: column 'n_params', parameters",
        "35 points, converged",
        "95% [",
        "left out, among the 1 highest of loss: r7",
    ):
        assert phrase in text


@pytest.mark.parametrize(
    ("options", "params"),
    [
        (["--law", "power-floor", "--against", "num_tokens"], {"E", "K", "gamma"}),
        (["--law", "metric", "--against", "lpips", "--metric", "fvd"], {"E", "K", "kappa"}),
        (["--law", "shared"], {"E", "A", "B", "gamma"}),
        (["--law", "kaplan"], {"A", "B", "kappa", "beta"}),
        (["--method", "least-squares"], {"E", "A", "B", "alpha", "beta"}),
        (["--fix", "E=0.3", "--compute-weight", "0.5"], {"E", "A", "B", "alpha", "beta"}),
    ],
)
def test_every_law_and_method_can_be_asked_for(table: Path, capsys, options: list[str], params: set[str]) -> None:
    document = printed(capsys, "fit", table, "--drop-top", 1, "--bootstrap", 50, *options)
    assert set(document["params"]) == params


def test_one_metric_follows_from_another(table: Path, capsys: pytest.CaptureFixture[str]) -> None:
    document = printed(capsys, "fit", table, "--law", "metric", "--against", "lpips", "--metric", "fvd")
    assert document["params"] == pytest.approx({"E": 40, "K": 900, "kappa": 2}, rel=1e-4)


@needs_data
def test_the_replication_is_one_command(capsys: pytest.CaptureFixture[str]) -> None:
    document = printed(
        capsys, "fit", DATA / "epoch_chinchilla" / "svg_extracted_data.csv", "--drop-top", 5, "--bootstrap", 4000
    )
    assert document["objective"] <= 0.00101827403
    assert document["params"]["A"] == pytest.approx(477.826, rel=1e-4)
    assert document["intervals"]["E"] == pytest.approx([1.769, 1.871], abs=0.05 * 0.102)
    assert len(document["excluded"]) == 5


@needs_data
def test_a_held_out_run_of_an_envelope_is_predicted_with_its_floor_fixed(tmp_path: Path, capsys) -> None:
    """Six isoFLOP minima; the run at 1e21 FLOPs was measured later: 2.599 against 2.606."""
    table = DATA / "marin" / "moe_isoflop_envelope.csv"
    options = ("--law", "power-floor", "--where", "role=isoflop_min", "--method", "least-squares", "--bootstrap", 0)
    fixed = printed(capsys, "fit", table, *options, "--fix", "E=1.6")["params"]
    assert fixed["E"] + fixed["K"] / 1e21 ** fixed["gamma"] == pytest.approx(2.606, abs=1e-3)
    free = printed(capsys, "fit", table, *options)["params"]["E"]
    assert free == pytest.approx(1.438, abs=1e-3)


def test_figures_are_drawn_as_png_and_svg(table: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["fit", str(table), "--drop-top", "1", "--bootstrap", "50", "--plot", str(tmp_path / "figures")]) == 0
    drawn = {path.name for path in (tmp_path / "figures").iterdir()}
    names = ("fit", "compute", "contours", "sensitivity", "holdouts")
    assert drawn == {f"{name}{kind}" for name in names for kind in (".png", ".svg")}
    for name in ("a.svg", "b.svg"):
        assert main(["fit", str(table), "--bootstrap", "0", "--plot", str(tmp_path / name)]) == 0
    assert (tmp_path / "a.svg").read_bytes() == (tmp_path / "b.svg").read_bytes()


def test_budgets_get_their_isoflop_curves_and_one_axis_its_curve(tmp_path: Path) -> None:
    runs = isoflops(noise=0.003)
    pd.DataFrame({**runs.axes, "loss": runs.metric}).to_csv(tmp_path / "t.csv", index=False)
    options = ("--bootstrap", "50", "--plot")
    assert main(["fit", str(tmp_path / "t.csv"), *options, str(tmp_path / "two")]) == 0
    assert (tmp_path / "two" / "isoflop.svg").stat().st_size > 5000
    assert main(["fit", str(tmp_path / "t.csv"), "--law", "power", *options, str(tmp_path / "one")]) == 0
    assert {path.stem for path in (tmp_path / "one").iterdir()} == {"fit", "curve", "sensitivity", "holdouts"}


def test_the_other_approaches_give_exponents(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    C = np.repeat([1e12, 4e12, 1.6e13], 7)
    N = 1e5 * (C / 1e12) ** 0.5 * np.tile(np.geomspace(0.25, 4, 7), 3)
    losses = np.exp(0.1 * np.log(N / (1e5 * (C / 1e12) ** 0.5)) ** 2) * (C / 1e12) ** -0.1
    pd.DataFrame({"n_params": N, "train_flops": C, "loss": losses}).to_csv(tmp_path / "t.csv", index=False)
    document = printed(capsys, "fit", tmp_path / "t.csv", "--method", "isoflop")
    assert (document["a"], document["b"], document["n_optima"]) == (pytest.approx(0.5), pytest.approx(0.5), 3)
    assert printed(capsys, "fit", tmp_path / "t.csv", "--method", "envelope")["a"] == pytest.approx(0.5)
    assert main(["fit", str(tmp_path / "t.csv"), "--method", "isoflop"]) == 0
    assert "isoflop: N ~ C^0.5000" in capsys.readouterr().out


def test_the_command_offers_the_laws_that_there_are() -> None:
    assert get_args(fit.LawName) == LAWS


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("fit", "--bootstrap", "-1"), 'Invalid value "-1" for --bootstrap. Must be >= 0; see scaling fit --help'),
        (("fit", "--delta", "0"), 'Invalid value "0.0" for --delta. Must be > 0'),
        (("fit", "--compute-weight", "nan"), 'Invalid value "nan" for --compute-weight. Must be < inf'),
        (("fit", "--column", "loss"), "--column loss: expected NAME=VALUE"),
        (("fit", "--unit", "n_params=many"), "--unit n_params=many: expected a positive number"),
        (("fit", "--fix", "A=3"), "A of chinchilla cannot be fixed; choose from E, alpha, beta"),
        (("fit", "--inverse-variance"), "no run was repeated with another seed"),
        (("fit", "--metric", "fdv"), "no column 'fdv'; is it 'fvd'?"),
        (("fit", "--law", "repeated"), "no column 'unique_tokens'"),
        (("fit", "--drop-top", "33"), "3 runs are too few for the 5 parameters of chinchilla"),
        (("fit", "--method", "isoflop"), "the runs are in no budgets of three or more with equal train_flops"),
        (("fit", "--plot", "law.gif"), "cannot draw '.gif'"),
    ],
)
def test_a_mistake_is_one_line_and_exit_code_2(table: Path, capsys, arguments: tuple[str, ...], message: str) -> None:
    assert main([arguments[0], str(table), *arguments[1:]]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1


@pytest.mark.parametrize(
    ("losses", "message"),
    [
        ({3: -0.5}, "loss is -0.5 in run r3, but must be a positive number"),
        ({3: 0.0}, "loss is 0 in run r3, but must be a positive number"),
    ],
)
def test_a_loss_that_is_none_names_its_run(table: Path, capsys, losses: dict[int, float], message: str) -> None:
    rows = pd.read_csv(table)
    for row, loss in losses.items():
        rows.loc[row, "val_loss"] = loss
    rows.to_csv(table, index=False)
    assert main(["fit", str(table)]) == 2
    assert f"{table}: {message}" in capsys.readouterr().err


def test_a_run_without_a_loss_is_left_out_by_name(table: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = pd.read_csv(table)
    rows.loc[3, "val_loss"] = np.nan
    rows.to_csv(table, index=False)
    document = printed(capsys, "fit", table, "--drop-top", 1, "--bootstrap", 0)
    assert (document["n_points"], document["excluded"][0]) == (34, {"run": "r3", "reason": "no loss"})


def test_runs_whose_videos_were_not_measured_are_left_out_of_a_law_of_fvd(tmp_path: Path, capsys) -> None:
    for i, size in enumerate(np.geomspace(1e5, 1e7, 9)):
        run = {"run_id": f"r{i}", "n_params": int(size), "num_tokens": int(20 * size), "train_flops": 120 * size**2}
        loss = Metric(name="val_loss", value=0.3 + 50 / size**0.5)
        records = [RunRecord(stage="dit", vae_id="v", flop_budget=1e12, metrics=(loss,), **run)]
        if i != 2:
            fvd = Metric(name="fvd", value=100 + 1e6 / size**0.6)
            records.append(RunRecord(run_id=f"m{i}", stage="metrics", parents={"dit": f"r{i}"}, metrics=(fvd,)))
        for record in records:
            write_record(tmp_path / record.run_id / "record.json", record)
            (tmp_path / record.run_id / "COMPLETE").touch()
    document = printed(capsys, "fit", tmp_path, "--law", "power-floor", "--against", "n_params", "--metric", "fvd")
    assert document["excluded"] == [{"run": "r2", "reason": "no fvd"}]
    assert document["params"] == pytest.approx({"E": 100, "K": 1e6, "gamma": 0.6}, rel=1e-3)


def test_one_size_is_no_law(table: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = pd.read_csv(table)
    rows["n_params"] = 1e6
    rows.drop(columns="train_flops").to_csv(table, index=False)
    assert main(["fit", str(table)]) == 2
    assert f"{table}: all runs have the same n_params (1e+06)" in capsys.readouterr().err


def test_a_study_warns_of_what_the_runs_do_not_tell(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    runs = planted(noise=0.1, sizes=4)
    pd.DataFrame({**runs.axes, "loss": runs.metric}).to_csv(tmp_path / "t.csv", index=False)
    few = printed(capsys, "fit", tmp_path / "t.csv")
    assert few["delta"] is None  # least squares, because there are not thirty
    warnings = few["warnings"]
    assert any("the runs say little about alpha" in warning for warning in warnings)
    huber = printed(capsys, "fit", tmp_path / "t.csv", "--delta", "0.001")["warnings"]
    assert any("a Huber loss of delta 0.001 on few runs" in warning for warning in huber)
    assert not any("Huber" in warning for warning in warnings)


FITS: dict[str, tuple[str, ...]] = {
    "--law": ("--law", "shared"),
    "--against": ("--law", "power", "--against", "num_tokens"),
    "--metric": ("--metric", "lpips"),
    "--method": ("--method", "least-squares"),
    "--delta": ("--delta", "0.01"),
    "--inverse-variance": ("--inverse-variance",),
    "--compute-weight": ("--compute-weight", "0.5"),
    "--fix": ("--fix", "E=0.25"),
    "--drop-top": ("--drop-top", "1"),
    "--bootstrap": ("--bootstrap", "60"),
    "--seed": ("--seed", "1"),
    "--column": ("--column", "loss=lpips"),
    "--unit": ("--unit", "n_params=2"),
    "--where": ("--where", "kind=a"),
    "--plot": ("--plot", "law.svg"),
    "--json": ("--json",),
}
"""Option -> arguments that use it; the other choices of a law are needed for one of them."""
REFUSED_BESIDE = {
    "isoflop": {"--law", "--against", "--delta", "--inverse-variance", "--compute-weight", "--fix", "--bootstrap",
                "--seed", "--plot"},
    "least-squares": {"--delta"},
    "huber": set[str](),
}  # fmt: skip


@pytest.fixture
def budgets(tmp_path: Path) -> Path:
    """Runs in budgets, each twice, of two kinds, with another metric."""
    runs = isoflops(noise=0.003)
    table = pd.DataFrame({**runs.axes, "loss": runs.metric, "lpips": runs.metric**2, "kind": "a"})
    again = table.assign(loss=table["loss"] * 1.01, kind="b")
    pd.concat([table, again]).to_csv(tmp_path / "t.csv", index=False)
    return tmp_path / "t.csv"


@pytest.mark.parametrize("method", list(REFUSED_BESIDE))
@pytest.mark.parametrize("option", [option for option in FITS if option != "--method"])
def test_every_option_changes_the_fit_or_is_refused(
    budgets: Path, capsys, monkeypatch, option: str, method: str
) -> None:
    monkeypatch.chdir(budgets.parent)
    base = ["fit", str(budgets), "--method", method]
    quick = [] if method == "isoflop" or option == "--bootstrap" else ["--bootstrap", "50"]
    assert main([*base, *quick]) == 0
    before = capsys.readouterr()
    code = main([*base, *quick, *FITS[option]])
    after = capsys.readouterr()
    if option in REFUSED_BESIDE[method]:
        assert code == 2
        assert f"--method {method}" in after.err
        assert option in after.err or FITS[option][0] in after.err
    else:
        assert code == 0
        assert (after.out, after.err) != (before.out, before.err)


def test_the_options_above_are_all_there_are(capsys) -> None:
    assert main(["fit", "--help"]) == 0
    offered = set(re.findall(r"--[a-z][a-z-]+", capsys.readouterr().out))
    assert offered - {"--help"} == set(FITS)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--against", "num_tokens"), "--against is the axis of a law with one axis; add --law with one of power"),
        (("--seed", "1", "--bootstrap", "0"), "--seed is the seed of the bootstrap, and --bootstrap 0 makes none"),
    ],
)
def test_an_option_without_its_companion_is_refused(
    budgets: Path, capsys, options: tuple[str, ...], message: str
) -> None:
    assert main(["fit", str(budgets), *options]) == 2
    assert message in capsys.readouterr().err
