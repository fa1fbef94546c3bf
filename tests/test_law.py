"""The Chinchilla law: planted laws, published data, refusals, and the command that fits them."""

import argparse
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from analysis.figures import law_figure, save_one
from analysis.intervals import law_intervals
from analysis.law import PARAMETERS, Fit, fit_law
from analysis.varpro import project
from scaling.cli import fit as command
from scaling.errors import UserError

ROOT = Path(__file__).parents[1]
DATA = Path(os.environ.get("SCALING_DATA", ROOT.parent / "shared" / "scaling-data"))
needs_data = pytest.mark.skipif(not DATA.is_dir(), reason=f"no public scaling data at {DATA}; set SCALING_DATA")

PLANTED = {"E": 0.3, "A": 90.0, "B": 400.0, "alpha": 0.45, "beta": 0.5}


def planted(noise: float = 0.0, seed: int = 0, sizes: int = 6) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    N, D = (axis.ravel() for axis in np.meshgrid(np.geomspace(5e4, 2e6, sizes), np.geomspace(1e6, 6e7, sizes)))
    L = PLANTED["E"] + PLANTED["A"] * N ** -PLANTED["alpha"] + PLANTED["B"] * D ** -PLANTED["beta"]
    return N, D, L * np.exp(noise * np.random.default_rng(seed).standard_normal(len(N)))


def epoch() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    points = pd.read_csv(DATA / "epoch_chinchilla" / "svg_extracted_data.csv").nsmallest(240, "loss")
    N = points["Model Size"].to_numpy()
    return N, points["Training FLOP"].to_numpy() / (6 * N), points["loss"].to_numpy()


def run_fit(*options: str) -> int:
    parser = argparse.ArgumentParser()
    command.add_parser(parser.add_subparsers())
    args = parser.parse_args(["fit", *options])
    return args.run(args)


def test_recovers_a_planted_law() -> None:
    fit = fit_law(*planted())
    assert fit.status == "converged"
    assert fit.params == pytest.approx(PLANTED, rel=1e-6)
    assert fit.a == pytest.approx(0.5 / 0.95, rel=1e-6)
    assert fit.a + fit.b == pytest.approx(1)


def test_units_of_size_and_data_change_nothing_but_their_constants() -> None:
    N, D, L = planted(noise=0.01)
    fit, scaled = fit_law(N, D, L), fit_law(N / 1e6, D / 1e9, L)
    assert scaled.objective == pytest.approx(fit.objective, rel=1e-9)
    assert (scaled.E, scaled.alpha, scaled.beta) == pytest.approx((fit.E, fit.alpha, fit.beta), rel=1e-5)
    assert scaled.params["A"] == pytest.approx(fit.A * 1e6**-fit.alpha, rel=1e-4)


@needs_data
def test_noise_free_public_data_to_a_millionth() -> None:
    points = pd.read_json(DATA / "cs336" / "isoflops_curves.json")
    N = points["parameters"].to_numpy(float)
    fit = fit_law(N, points["compute_budget"] / (6 * N), points["final_loss"])
    truth = {"E": 2.69, "A": 1606.4, "B": 3210.7, "alpha": 0.34, "beta": 0.36}
    assert fit.params == pytest.approx(truth, rel=1e-6)
    assert fit.a == pytest.approx(0.5142857, abs=1e-6)


@needs_data
def test_reaches_the_optimum_of_the_chinchilla_replication() -> None:
    """Besiroglu et al. 2024 print a point slightly above the minimum of their own objective."""
    fit = fit_law(*epoch())
    assert fit.objective <= 0.00101827403
    assert fit.status == "converged"
    expected = {"E": 1.817218, "A": 477.826, "B": 2143.417, "alpha": 0.347311, "beta": 0.367172}
    assert fit.params == pytest.approx(expected, rel=1e-4)
    assert fit.a == pytest.approx(0.513900, abs=1e-5)


@needs_data
def test_bootstrap_of_the_replication_agrees_with_4000_published_draws() -> None:
    N, D, L = epoch()
    found = law_intervals(fit_law(N, D, L), N, D, L, draws=200, seed=0)
    for name, low, high in (("E", 1.769, 1.871), ("alpha", 0.317, 0.373), ("beta", 0.331, 0.415)):
        # 200 draws leave the ends of a 95 % interval uncertain by about a seventh of its width.
        assert found[name] == pytest.approx((low, high), abs=0.2 * (high - low)), name


def test_a_few_runs_keep_their_design_and_cover_the_truth() -> None:
    N, D, L = planted(noise=0.01, seed=3, sizes=4)
    fit = fit_law(N, D, L, delta=1.0)
    found = law_intervals(fit, N, D, L, draws=60, seed=0)
    assert found == law_intervals(fit, N, D, L, draws=60, seed=0)
    for name, value in PLANTED.items():
        assert found[name][0] < value < found[name][1], name


def test_a_loss_without_a_floor_hits_the_bound() -> None:
    N, D, _ = planted()
    fit = fit_law(N, D, 90 * N**-0.45 + 400 * D**-0.5)
    assert fit.params["E"] == pytest.approx(0, abs=1e-6)
    shrunk = fit_law(N, D, 90 * N**-0.45 + 400 * D**-0.5 - 0.02)
    assert (shrunk.status, shrunk.E) == ("bound_hit", 0.0)
    assert "E is 0" in shrunk.reason


def test_data_that_always_grow_with_size_are_underdetermined() -> None:
    N = np.geomspace(1e6, 1e9, 10)
    fit = fit_law(N, 20 * N, 1.7 + 400 / N**0.34 + 400 / (20 * N) ** 0.3)
    assert fit.status == "underdetermined"
    assert "condition number" in fit.reason


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda N, D, L: (N[:5], D[:5], L[:5]), "5 runs are too few for a law of 5 parameters; give at least 6"),
        (lambda N, D, L: (N, D, np.where(np.arange(len(L)) == 2, np.nan, L)), "loss is nan in point 3"),
        (lambda N, D, L: (N, D, -L), "loss is -"),
        (lambda N, D, L: (np.full_like(N, 1e6), D, L), "all runs have the same n_params (1e+06)"),
        (lambda N, D, L: (N, np.full_like(D, 1e6), L), "all runs have the same num_tokens"),
    ],
)
def test_refuses_what_no_law_can_be_fitted_to(change, message: str) -> None:
    with pytest.raises(UserError) as error:
        fit_law(*change(*planted()))
    assert message in str(error.value)
    assert "\n" not in str(error.value)


def test_projection_is_the_constrained_optimum() -> None:
    from scipy.optimize import nnls

    rng = np.random.default_rng(0)
    columns, losses = rng.standard_normal((5, 9, 3)), rng.uniform(0.5, 1.5, (7, 9))
    scale = rng.uniform(0.5, 2, 9)
    found = project(columns, losses, scale)
    for grid in range(5):
        for copy in range(7):
            _, norm = nnls(columns[grid] / scale[:, None], losses[copy] / scale)
            assert found.surface[grid, copy] == pytest.approx(norm**2)


def test_fit_command_prints_json(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    N, D, L = planted(noise=0.005)
    L[7] = 9.0
    table = pd.DataFrame({"run_id": [f"r{i}" for i in range(len(N))], "n_params": N, "num_tokens": D, "val_loss": L})
    table.to_csv(tmp_path / "runs.csv", index=False)
    plot = tmp_path / "law.svg"
    options = ["--drop-top", "1", "--bootstrap", "10", "--json", "--plot", str(plot)]
    assert run_fit(str(tmp_path / "runs.csv"), *options) == 0
    result = json.loads(capsys.readouterr().out)
    assert result["excluded"] == ["r7"]
    assert (result["law"], result["n_points"], result["status"]) == ("chinchilla", 35, "converged")
    assert result["params"]["E"] == pytest.approx(0.3, abs=0.05)
    assert set(result["intervals"]) == {*PARAMETERS, "a", "b"}
    assert plot.read_text().startswith("<?xml")


def test_every_kind_of_table_gives_the_same_fit(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    N, D, L = planted(noise=0.01)
    table = pd.DataFrame({"n_params": N, "train_flops": 6 * N * D, "loss": L})
    table.to_csv(tmp_path / "t.csv", index=False)
    table.to_parquet(tmp_path / "t.parquet")
    table.to_json(tmp_path / "t.json", orient="records", double_precision=15)
    table.to_json(tmp_path / "t.jsonl", orient="records", lines=True, double_precision=15)
    alphas = []
    for name in ("t.csv", "t.parquet", "t.json", "t.jsonl"):
        assert run_fit(str(tmp_path / name), "--bootstrap", "0", "--json") == 0
        out, err = capsys.readouterr()
        assert "taking D = train_flops / (6 n_params)" in err
        alphas.append(json.loads(out)["params"]["alpha"])
    assert alphas == pytest.approx([alphas[0]] * 4, rel=1e-6)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("t.csv", "N_params,num_tokens,loss\n1,2,3\n", "no column 'n_params'; rename 'N_params'?"),
        ("t.csv", "n_params,num_tokens,vloss\n1,2,3\n", "no column 'val_loss'; rename 'vloss'?"),
        ("t.csv", "n_params,num_tokens,loss\n1,2,oops\n", "column 'loss' holds 'oops' in row 1"),
        ("t.csv", "", "cannot be read as csv"),
        ("t.csv", "n_params,num_tokens,loss\n1,2,3\n", "1 runs are too few"),
        ("t.json", "{", "cannot be read as json"),
        ("t.parquet", "no", "cannot be read as parquet"),
        ("t.xls", "", "unknown kind of table"),
        ("t.csv", None, "no such file"),
    ],
)
def test_a_bad_table_is_named_in_one_line(tmp_path: Path, name: str, content: str | None, message: str) -> None:
    if content is not None:
        (tmp_path / name).write_text(content)
    with pytest.raises(UserError) as error:
        run_fit(str(tmp_path / name))
    assert str(tmp_path / name) in str(error.value)
    assert message in str(error.value)
    assert "\n" not in str(error.value)


def test_a_figure_is_the_same_bytes_twice_and_refuses_unknown_kinds(tmp_path: Path) -> None:
    N, D, L = planted(noise=0.01)
    fit: Fit = fit_law(N, D, L)
    for name in ("a.svg", "b.svg"):
        save_one(law_figure(fit, N, D, L), tmp_path / name)
    assert (tmp_path / "a.svg").read_bytes() == (tmp_path / "b.svg").read_bytes()
    with pytest.raises(UserError, match=r"cannot draw '\.gif'"):
        save_one(law_figure(fit, N, D, L), tmp_path / "a.gif")


def test_analysis_and_its_commands_never_import_torch() -> None:
    modules = "analysis.law, analysis.forecast, analysis.figures, analysis.table, scaling.cli.fit, scaling.cli.forecast"
    code = f"import sys, {modules}; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False).returncode == 0
