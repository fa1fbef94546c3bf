"""`scaling forecast`: one engine for folders and files, two methods, and no option that silently does nothing."""

import json
import re
import subprocess
import sys
from itertools import product
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pandas as pd
import pytest

from analysis.forecast.forecast import forecast
from analysis.forecast.record import Forecast
from analysis.laws.forms import LAWS as ALL_LAWS
from analysis.tables.read import read_runs
from benchmarks.forecast_calibration import BASE, LAWS, plant
from scaling.cli.forecast import ForecastLawName
from scaling.cli.main import main
from scaling.core.records import Metric, RunRecord, write_record
from tests.test_frontier import sweep
from tests.test_law import planted

TARGET = 128 * BASE


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Ten finished runs in three compute budgets, with an FVD each."""
    runs = tmp_path_factory.mktemp("forecast") / "runs"
    for row in sweep(plant(*LAWS[2]), np.random.default_rng(5)).itertuples():
        record = RunRecord(
            run_id=row.run_id,
            stage="dit",
            vae_id="vae-1",
            n_params=int(row.n_params),
            num_tokens=int(row.num_tokens),
            train_flops=row.train_flops,
            flop_budget=row.flop_budget,
            metrics=(Metric(name="val_loss", value=row.val_loss, standard_error=0.001),),
        )
        fvd = Metric(name="fvd", value=100 + 900 * row.val_loss)
        measures = RunRecord(run_id=f"m-{row.run_id}", stage="metrics", parents={"dit": row.run_id}, metrics=(fvd,))
        for finished in (record, measures):
            write_record(runs / finished.run_id / "record.json", finished)
            (runs / finished.run_id / "COMPLETE").touch()
    return runs


@pytest.fixture(scope="module")
def export(folder: Path) -> Path:
    """The same runs as a CSV file."""
    path = folder.parent / "export.csv"
    read_runs(folder).to_csv(path, index=False)
    return path


@pytest.fixture
def scattered(tmp_path: Path) -> Path:
    """A planted grid of 36 runs in no budgets, one of them ruined, with another loss beside the first."""
    runs = planted(noise=0.005)
    losses = runs.metric.copy()
    losses[7] = 9.0
    columns = {"run_id": [f"r{i}" for i in range(36)], **runs.axes, "val_loss": losses, "fvd": 500 * runs.metric}
    pd.DataFrame({**columns, "kind": np.resize(["a", "b"], 36)}).to_csv(tmp_path / "grid.csv", index=False)
    return tmp_path / "grid.csv"


def printed(capsys: pytest.CaptureFixture[str], *arguments: object) -> dict[str, Any]:
    assert main(["forecast", *map(str, arguments), "--json"]) == 0
    document: dict[str, Any] = json.loads(capsys.readouterr().out)
    return document


def refused(capsys: pytest.CaptureFixture[str], *arguments: object) -> str:
    assert main(["forecast", *map(str, arguments)]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    return error


# ---- One engine


def test_a_folder_of_runs_and_an_export_of_them_give_the_same_answer(folder: Path, export: Path, capsys) -> None:
    question = ("--flops", TARGET, "--target", 0.3, "--add", 4 * BASE, "--seed", 3)
    for method in ("forms", "law"):
        question_and_method = (*question, "--method", method)
        assert printed(capsys, export, *question_and_method) == printed(capsys, folder, *question_and_method)


def test_a_forecast_by_forms_does_not_depend_on_the_order_of_the_runs(folder: Path, tmp_path: Path, capsys) -> None:
    read_runs(folder).sample(frac=1, random_state=0).to_csv(tmp_path / "t.csv", index=False)
    assert printed(capsys, tmp_path / "t.csv", "--flops", TARGET) == printed(capsys, folder, "--flops", TARGET)


def test_the_command_says_what_the_sweep_puts_on_record(folder: Path, capsys) -> None:
    document = printed(capsys, folder, "--flops", TARGET)
    on_record = forecast(read_runs(folder), TARGET, seed=0)
    assert document["method"] == "forms"
    assert Forecast.model_validate(document["forecast"]) == on_record
    best = document["optimal_run"]
    assert best["metric"] == {"value": on_record.val_loss, "low": on_record.low, "high": on_record.high}
    assert best["n_params"]["value"] == on_record.n_params
    assert best["reach"] == pytest.approx(8)


@pytest.mark.parametrize("extra", [("--add", 4 * BASE), ("--target", 0.3), ("--add", 4 * BASE, "--target", 0.3)])
@pytest.mark.parametrize("method", [(), ("--method", "law")], ids=["default", "law"])
def test_asking_for_more_changes_neither_method_nor_forecast(folder: Path, capsys, method, extra) -> None:
    alone = printed(capsys, folder, "--flops", TARGET, *method)
    more = printed(capsys, folder, "--flops", TARGET, *method, *extra)
    assert {name: more[name] for name in alone} == alone
    assert set(more) - set(alone) == {{"--add": "runs_to_add", "--target": "compute_for_loss"}[o] for o in extra[::2]}


def test_leaving_runs_out_does_not_change_the_method(folder: Path, tmp_path: Path, capsys) -> None:
    """Two budgets of three runs; without the highest, one has two."""
    runs = read_runs(folder)
    runs[runs["flop_budget"] > BASE].to_csv(tmp_path / "t.csv", index=False)
    assert "5 runs are too few" in refused(capsys, tmp_path / "t.csv", "--flops", TARGET, "--drop-top", 1)
    assert printed(capsys, tmp_path / "t.csv", "--flops", TARGET)["method"] == "forms"
    assert printed(capsys, folder, "--flops", TARGET, "--drop-top", 3)["method"] == "forms"


def test_the_method_follows_from_the_table_or_is_named(folder: Path, scattered: Path, capsys) -> None:
    assert printed(capsys, folder, "--flops", TARGET)["method"] == "forms"
    assert printed(capsys, scattered, "--flops", 1e15)["method"] == "law"
    assert printed(capsys, folder, "--flops", TARGET, "--method", "law")["method"] == "law"
    assert "the runs come in no compute budgets" in refused(capsys, scattered, "--flops", 1e15, "--method", "forms")


def test_budgets_are_found_in_a_table_that_does_not_name_them(folder: Path, tmp_path: Path, capsys) -> None:
    runs = read_runs(folder)[["run_id", "n_params", "num_tokens", "train_flops", "val_loss"]]
    runs.to_csv(tmp_path / "t.csv", index=False)
    document = printed(capsys, tmp_path / "t.csv", "--flops", TARGET)
    assert document["method"] == "forms"
    assert document["optimal_run"]["metric"]["value"] == pytest.approx(
        printed(capsys, folder, "--flops", TARGET)["optimal_run"]["metric"]["value"], rel=1e-6
    )


# ---- Every option changes the answer or is refused

ON_BOTH: dict[str, tuple[object, ...]] = {
    "--flops": (2 * TARGET,),
    "--target": (0.3,),
    "--add": (4 * BASE,),
    "--bootstrap": (150,),
    "--seed": (1,),
    "--drop-top": (1,),
    "--where": ("flop_budget=600000000000.0",),
    "--unit": ("n_params=2",),
    "--column": ("loss=fvd",),
    "--json": (),
}
BY_LAW: dict[str, tuple[object, ...]] = {"--law": ("kaplan",), "--delta": (0.001,), "--metric": ("fvd",)}


@pytest.mark.parametrize("method", ["forms", "law"])
@pytest.mark.parametrize("option", [*ON_BOTH, *BY_LAW, "--method"])
def test_every_option_changes_the_answer_or_is_refused(folder: Path, capsys, option: str, method: str) -> None:
    base: dict[str, tuple[object, ...]] = {"--flops": (TARGET,), "--method": (method,)}
    other = {**ON_BOTH, **BY_LAW, "--method": ("law" if method == "forms" else "forms",)}[option]

    def run(options: dict[str, tuple[object, ...]]) -> int:
        return main(
            ["forecast", str(folder), *(str(word) for name, values in options.items() for word in (name, *values))]
        )

    assert run(base) == 0
    before = capsys.readouterr().out
    code = run(base | {option: other})
    after = capsys.readouterr()
    if option == "--where":  # one budget of four runs carries no forecast, and says so
        assert code == 2
        assert ("1 compute budgets" if method == "forms" else "4 runs are too few") in after.err
    elif option in BY_LAW and method == "forms":
        assert code == 2
        assert option in after.err
        assert "--method law" in after.err
    else:
        assert code == 0
        assert after.out != before


def test_the_options_above_are_all_there_are(capsys) -> None:
    assert main(["forecast", "--help"]) == 0
    offered = set(re.findall(r"--[a-z][a-z-]+", capsys.readouterr().out))
    assert offered - {"--help"} == {*ON_BOTH, *BY_LAW, "--method"}


def test_the_laws_offered_exist() -> None:
    assert set(get_args(ForecastLawName)) < set(ALL_LAWS)


# ---- What is printed


def test_a_law_says_what_a_compute_buys_and_what_a_loss_takes(scattered: Path, capsys) -> None:
    question = (scattered, "--drop-top", 1, "--flops", 1e16, "--target", 0.45, "--add", 1e15)
    document = printed(capsys, *question)
    share = 0.5 * 400 / (0.45 * 90)
    best = ((1e16 / 6) ** 0.5 / share) ** (1 / 0.95)
    optimal = document["optimal_run"]
    assert optimal["n_params"]["low"] < best < optimal["n_params"]["high"]
    loss = 0.3 + 90 * best**-0.45 + 400 * (1e16 / 6 / best) ** -0.5
    assert optimal["metric"]["low"] < loss < optimal["metric"]["high"]
    compute = document["compute_for_loss"]
    assert compute["train_flops"]["low"] < compute["train_flops"]["value"] < compute["train_flops"]["high"]
    assert sum(run["train_flops"] for run in document["runs_to_add"]["runs"]) == pytest.approx(1e15)
    assert document["excluded"] == [{"run": "r7", "reason": "among the 1 highest of loss"}]
    assert main(["forecast", *map(str, question)]) == 0
    text = capsys.readouterr().out
    for part in ("one law", "for a new run", "a loss of 0.45 takes", "runs that tell most about 1e+16 FLOPs", "r7"):
        assert part in text


def test_forms_say_the_same_with_their_evidence(folder: Path, capsys) -> None:
    assert main(["forecast", str(folder), "--flops", str(TARGET), "--target", "0.3", "--add", str(4 * BASE)]) == 0
    text = capsys.readouterr().out
    for part in ("several forms together", "8 times the largest", "for a new run", "L = E + K / C^gamma", "backtest at",
                 "a loss of 0.3 takes", "runs that tell most about"):  # fmt: skip
        assert part in text


def test_a_draw_of_the_law_without_a_term_leaves_an_end_open_and_no_traceback(tmp_path: Path, capsys) -> None:
    """Losses that hardly depend on D: some copies of the runs have B = 0, by which the best N has no upper end."""
    N, D = (axis.ravel() for axis in np.meshgrid(np.geomspace(1e5, 1e7, 3), np.geomspace(1e7, 1e9, 3)))
    noise = np.exp(0.05 * np.random.default_rng(1).standard_normal(9))
    runs = pd.DataFrame({"n_params": N, "num_tokens": D, "loss": (90 * N**-0.3 + 2 * D**-0.2) * noise})
    runs.to_csv(tmp_path / "t.csv", index=False)
    size = printed(capsys, tmp_path / "t.csv", "--flops", 1e17, "--method", "law")["optimal_run"]["n_params"]
    assert size["high"] is None


@pytest.fixture
def ridge(tmp_path: Path) -> Path:
    """Nine runs whose losses are mostly noise: some copies of them have no term of N, some none of D."""
    losses = (3.002, 2.748, 2.906, 2.841, 2.476, 2.652, 3.151, 2.833, 2.231)
    runs = [(N, D, loss) for (N, D), loss in zip(product((1e8, 3e8, 1e9), (3e9, 1e10, 3e10)), losses, strict=True)]
    pd.DataFrame(runs, columns=["params", "tokens", "loss"]).to_csv(tmp_path / "t.csv", index=False)
    return tmp_path / "t.csv"


@pytest.mark.filterwarnings("error::RuntimeWarning")
@pytest.mark.parametrize("question", [("--flops", 1e20), ("--target", 2.6), ("--flops", 1e22, "--target", 2.5)])
def test_laws_without_a_best_size_are_counted_and_are_no_number(ridge: Path, capsys, monkeypatch, question) -> None:
    monkeypatch.setattr("sys.warnoptions", ["error"])
    document = printed(capsys, ridge, *question)
    for name in {"optimal_run", "compute_for_loss"} & set(document):
        size = document[name]["n_params"]
        assert size["value"] > 0
        assert size["low"] is None or size["low"] > 0
        assert any("of the bootstrap's laws have no best size" in note for note in document[name]["notes"])


def test_no_warning_of_numpy_reaches_a_terminal(ridge: Path) -> None:
    command = [
        sys.executable,
        "-m",
        "scaling.cli.main",
        "forecast",
        str(ridge),
        "--target",
        "2.5",
        "--bootstrap",
        "100",
    ]
    process = subprocess.run(command, capture_output=True, text=True, check=True)
    assert process.stderr == ""
    assert "nan" not in process.stdout


def test_runs_are_not_suggested_by_a_law_that_is_not_known(ridge: Path, capsys) -> None:
    question = ("--flops", 1e22, "--add", 1e20, "--law", "kaplan", "--bootstrap", 300)
    assert "the runs do not separate the parameters of kaplan well enough" in refused(capsys, ridge, *question)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "nothing is asked: give --flops C"),
        (("--target", "0.2", "--drop-top", "1"), "the law never reaches 0.2"),
        (("--target", "0.5", "--add", "1e12"), "--add needs --flops"),
        (("--flops", "-1"), 'Invalid value "-1.0" for --flops. Must be > 0'),
        (("--flops", "1e15", "--bootstrap", "3"), 'Invalid value "3" for --bootstrap. Must be >= 100'),
        (("--flops", "1e15", "--add", "1"), "1 FLOPs buy no run near those of the table"),
        (("--flops", "1e15", "--delta", "0"), 'Invalid value "0.0" for --delta. Must be > 0'),
        (("--flops", "1e15", "--drop-top", "33"), "3 runs are too few for the 5 parameters of chinchilla"),
    ],
)
def test_a_mistake_is_one_line_and_exit_code_2(
    scattered: Path, capsys, arguments: tuple[str, ...], message: str
) -> None:
    assert message in refused(capsys, scattered, *arguments)


def test_forms_refuse_what_they_cannot_forecast(folder: Path, tmp_path: Path, capsys) -> None:
    assert "no run has less compute than 1e+11 FLOPs" in refused(capsys, folder, "--flops", 1e11)
    assert "give a lower loss" in refused(capsys, folder, "--target", 5)
    assert "is predicted to reach a loss of 0.01" in refused(capsys, folder, "--target", 0.01)
    (tmp_path / "empty").mkdir()
    assert "no finished DiT run" in refused(capsys, tmp_path / "empty", "--flops", 1e14)
