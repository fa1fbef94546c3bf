"""The frontier from isoFLOP groups, and forecasts from it: published numbers, planted laws, refusals, the record."""

import argparse
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from analysis.ensemble import predict
from analysis.figures import isoflop_figure, save, scaling_figure
from analysis.forecast import Forecast, compare, forecast
from analysis.frontier import COLUMNS, fit_frontier, fit_power
from scaling.cli import forecast as command
from scaling.errors import UserError
from scaling.records import Metric, RunRecord, write_record
from tests.test_law import DATA, needs_data

Loss = Callable[[float, float], float]
BASE = 4e11
"""Smallest budget of the simulated sweeps, in FLOPs."""

LAWS = [
    # floor, alpha, beta, outer exponent: losses of .9 at the smallest budget, all falling to .3 to .4 at 128 times that
    (0.0, 0.50, 0.45, 1.0),
    (0.1, 0.50, 0.50, 1.0),
    (0.2, 0.60, 0.60, 1.0),
    (0.3, 0.80, 0.80, 1.0),
    # Not the law that is fitted: the sum of the two terms is bent, as in fits with an outer exponent.
    (0.2, 1.00, 0.80, 0.6),
    (0.2, 0.40, 0.50, 1.3),
]


def plant(floor: float, alpha: float, beta: float, outer: float) -> Loss:
    """L(N, C), optimal near N = 9e4 at the smallest budget, where it is .9."""
    reducible = (0.9 - floor) ** (1 / outer)
    A, B = reducible * beta / (alpha + beta), reducible * alpha / (alpha + beta)

    def loss(N: float, C: float) -> float:
        n, c = N / 9e4, C / BASE
        return floor + (A * n**-alpha + B * (c / n) ** -beta) ** outer

    return loss


def sweep(loss: Loss, rng: np.random.Generator, noise: float = 0.01) -> pd.DataFrame:
    """The demo's design: three budgets (1x, 4x, 16x of the smallest) with four, three and three sizes."""
    rows = []
    for budget, sizes in ((BASE, (0.5, 1, 2, 4)), (4 * BASE, (0.5, 1, 2.2)), (16 * BASE, (0.6, 1.3, 2.6))):
        for size in sizes:
            N = 9e4 * (budget / BASE) ** 0.5 * size
            measured = loss(N, budget) * np.exp(noise * rng.standard_normal())
            rows.append((f"r{len(rows)}", N, budget / (6 * N), budget, budget, measured))
    return pd.DataFrame(rows, columns=list(COLUMNS))


def isoflops(loss: Callable[[float, float], float], budgets: list[float], sizes: Callable) -> pd.DataFrame:
    rows = [(f"{C}-{N}", N, C / (6 * N), C, C, loss(N, C / (6 * N))) for C in budgets for N in sizes(C)]
    return pd.DataFrame(rows, columns=list(COLUMNS))


@needs_data
def test_bias_of_the_parabola_is_the_published_one_in_all_cells() -> None:
    """On noise-free surfaces, extrapolating D_opt by parabolas errs by a known amount (Open-Athena, 12 cells)."""
    published = pd.read_csv(DATA / "approach2_bias" / "extrapolation_error_data.csv")
    assert len(published) == 12
    for row in published.itertuples():
        ratio = (row.alpha * 400 / (row.beta * 400)) ** (1 / (row.alpha + row.beta))
        share = row.beta / (row.alpha + row.beta)
        width = 10**row.log_range

        def optimum(C: float, ratio: float = ratio, share: float = share) -> float:
            return ratio * (C / 6) ** share

        table = isoflops(
            lambda N, D, row=row: 1.69 + 400 * N**-row.alpha + 400 * D**-row.beta,
            list(np.geomspace(1e17, 1e21, 5)),
            lambda C, width=width, optimum=optimum: optimum(C) * np.geomspace(1 / width, width, 15),
        )
        inferred = float(fit_frontier(table).num_tokens(1e24))
        error = 100 * (inferred * 6 * optimum(1e24) / 1e24 - 1)
        assert error == pytest.approx(row.rel_error_pct, abs=1e-3), (row.surface, row.grid_name)


@needs_data
def test_parabolas_on_noise_free_public_data() -> None:
    points = pd.read_json(DATA / "cs336" / "isoflops_curves.json")
    N, C = points["parameters"].astype(float), points["compute_budget"]
    columns = [points.index.astype(str), N, C / (6 * N), C, C, points["final_loss"]]
    frontier = fit_frontier(pd.DataFrame(dict(zip(COLUMNS, columns, strict=True))))
    # The best run per budget would give .469; the truth is .5143.
    assert frontier.n_params.exponent == pytest.approx(0.5146, abs=1e-4)
    assert not any(optimum.refusal for optimum in frontier.optima)


@needs_data
def test_power_laws_of_published_optima() -> None:
    pairs = pd.read_csv(DATA / "porian" / "optimal_pairs.csv").dropna(subset=["n_opt"])
    keys = ["source", "dataset", "hparams", "warmup", "decay", "param_count", "split"]
    fits = json.loads((DATA / "porian" / "published_fits.json").read_text())
    compared = 0
    for published in fits:
        rows = pairs[np.logical_and.reduce([pairs[key].astype(str) == str(published[key]) for key in keys])]
        if len(rows) >= 3 and "basic" in published:
            found = fit_power(rows["flops"], rows["n_opt"]).exponent
            assert found == pytest.approx(published["basic"]["n_exponent"], abs=1e-5)
            compared += 1
    assert compared >= 10


def test_attention_bends_flops_per_token_and_the_frontier_knows() -> None:
    table = sweep(plant(*LAWS[1]), np.random.default_rng(0))
    table["num_tokens"] = table["train_flops"] / (40 * table["n_params"] ** 0.9)
    frontier = fit_frontier(table)
    assert frontier.flops_per_token.exponent == pytest.approx(0.9)
    assert frontier.n_params.exponent * 0.9 + frontier.num_tokens.exponent == pytest.approx(1)


@pytest.mark.parametrize(
    ("losses", "reason"),
    [
        ([0.50, 0.55, 0.65], "the minimum lies below the sizes tried; add a smaller one"),
        ([0.65, 0.55, 0.50], "the minimum lies above the sizes tried; add a larger one"),
        ([0.50, 0.60, 0.52], "the parabola opens downwards"),
    ],
)
def test_a_parabola_without_an_inner_minimum_is_refused_and_the_best_run_stands_in(losses, reason: str) -> None:
    table = sweep(plant(*LAWS[1]), np.random.default_rng(0))
    table.loc[table["flop_budget"] == 16 * BASE, "val_loss"] = losses
    largest = fit_frontier(table).optima[-1]
    assert largest.refusal == reason
    best = table[table["flop_budget"] == 16 * BASE].nsmallest(1, "val_loss").iloc[0]
    assert (largest.n_params, largest.val_loss) == pytest.approx((best["n_params"], best["val_loss"]))
    assert any(reason in refusal for refusal in forecast(table, 128 * BASE).refusals)


def test_two_sizes_make_no_parabola() -> None:
    table = sweep(plant(*LAWS[1]), np.random.default_rng(0)).drop(index=[4])
    assert fit_frontier(table).optima[1].refusal == "2 sizes, a parabola needs 3"


def test_intervals_hold_the_measured_loss_at_eight_times_the_compute() -> None:
    """The promise of a forecast, checked on laws it was not told of, with 1 % run noise."""
    inside, widths, errors = [], [], []
    for number, law in enumerate(LAWS):
        loss = plant(*law)
        for seed in range(7):
            rng = np.random.default_rng([1000 + seed, number])
            found = predict(sweep(loss, rng), 128 * BASE, seed)
            low, middle, high = (float(values[-1]) for values in (found.low, found.val_loss, found.high))
            measured = loss(float(found.n_params[-1]), 128 * BASE) * np.exp(0.01 * rng.standard_normal())
            inside.append(low <= measured <= high)
            widths.append((high - low) / middle)
            errors.append(middle / measured - 1)
    assert np.mean(inside) >= 0.85
    assert np.median(widths) < 0.35
    assert abs(np.median(errors)) < 0.05


def test_a_forecast_repeats_exactly_survives_its_document_and_never_sees_the_target() -> None:
    table = sweep(plant(*LAWS[2]), np.random.default_rng(5))
    found = forecast(table, 128 * BASE)
    answer = pd.DataFrame([("big", 1e6, 1e7, 128 * BASE, 128 * BASE, 0.01)], columns=list(COLUMNS))
    again = forecast(pd.concat([table, answer], ignore_index=True), 128 * BASE)
    assert again == found
    assert Forecast.model_validate(json.loads(json.dumps(found.to_document()))) == found
    assert found.run_ids == tuple(f"r{i}" for i in range(10))
    assert {form.name for form in found.forms} == {
        "frontier_power",
        "frontier_floor",
        "chinchilla_no_floor",
        "chinchilla",
    }
    assert found.low < found.val_loss < found.high
    assert found.n_params_low < found.n_params < found.n_params_high
    assert found.num_tokens == pytest.approx(128 * BASE / (6 * found.n_params))
    assert (found.band.flops[-1], found.band.low[-1]) == pytest.approx((found.target_flops, found.low))


def test_backtest_predicts_the_largest_budget_from_the_smaller_ones() -> None:
    loss = plant(*LAWS[0])
    found = forecast(sweep(loss, np.random.default_rng(2)), 128 * BASE).backtest
    assert found is not None
    assert found.flop_budget == 16 * BASE
    assert found.relative_error == pytest.approx(found.predicted / found.measured - 1)
    assert abs(found.relative_error) < 0.08
    assert found.inside
    table = sweep(loss, np.random.default_rng(2)).iloc[1:]
    table = table[~((table["flop_budget"] == 4 * BASE) & (table["n_params"] > 2e5))]
    without = forecast(table, 128 * BASE)
    assert without.backtest is None
    assert any(refusal.startswith("backtest: 5 runs are too few") for refusal in without.refusals)


def test_a_run_without_a_loss_is_left_out_by_name() -> None:
    table = sweep(plant(*LAWS[1]), np.random.default_rng(0))
    table.loc[3, "val_loss"] = np.nan
    found = forecast(table, 128 * BASE)
    assert "r3" not in found.run_ids
    assert "run r3 has no val_loss" in found.refusals


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda table: table.drop(columns="flop_budget"), "no column flop_budget"),
        (lambda table: table[table["flop_budget"] == BASE], "1 compute budgets give no frontier"),
        (lambda table: table.iloc[[0, 1, 4, 5, 7]], "5 runs are too few"),
        (lambda table: table.assign(num_tokens=0.0), "run r0 has no positive num_tokens"),
        (lambda table: table.assign(flop_budget=np.nan), "run r0 has no positive flop_budget"),
    ],
)
def test_refuses_tables_that_carry_no_forecast(change, message: str) -> None:
    table = sweep(plant(*LAWS[1]), np.random.default_rng(0))
    with pytest.raises(UserError, match=message):
        forecast(change(table), 128 * BASE)


def record(loss: float | None, train_flops: float, vae_id: str = "vae-1") -> RunRecord:
    metrics = () if loss is None else (Metric(name="val_loss", value=loss),)
    return RunRecord(run_id="big", stage="dit", vae_id=vae_id, train_flops=train_flops, metrics=metrics)


def test_comparison_says_how_far_and_whether_inside() -> None:
    table = sweep(plant(*LAWS[2]), np.random.default_rng(5)).assign(vae_id="vae-1")
    found = forecast(table, 128 * BASE)
    hit = compare(found, record(found.val_loss / 0.98, 127 * BASE))
    assert hit.relative_error == pytest.approx(-0.02)
    assert hit.inside
    assert not compare(found, record(2 * found.high, 128 * BASE)).inside
    for wrong, message in (
        (record(None, 128 * BASE), "no val_loss"),
        (record(0.4, 64 * BASE), "the forecast is for"),
        (record(0.4, 128 * BASE, "vae-2"), "same VAE"),
    ):
        with pytest.raises(UserError, match=message):
            compare(found, wrong)


def test_figures_are_drawn_from_a_forecast(tmp_path: Path) -> None:
    table = sweep(plant(*LAWS[2]), np.random.default_rng(5))
    table.loc[table["flop_budget"] == 4 * BASE, "val_loss"] = [0.6, 0.7, 0.8]
    found = forecast(table, 128 * BASE)
    computes = {"base": 4 * BASE, "4x": 16 * BASE, "32x": 128 * BASE}
    comparison = compare(found, record(0.37, 128 * BASE))
    paths = save(scaling_figure(table, found, comparison, computes), tmp_path, "scaling")
    paths += save(isoflop_figure(table, fit_frontier(table)), tmp_path, "isoflop")
    assert [path.name for path in paths] == ["scaling.png", "scaling.svg", "isoflop.png", "isoflop.svg"]
    assert all(path.stat().st_size > 5000 for path in paths)


def test_forecast_command_reads_a_folder_of_runs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for row in sweep(plant(*LAWS[2]), np.random.default_rng(5)).itertuples():
        written = RunRecord(
            run_id=row.run_id,
            stage="dit",
            n_params=int(row.n_params),
            num_tokens=int(row.num_tokens),
            train_flops=row.train_flops,
            flop_budget=row.flop_budget,
            metrics=(Metric(name="val_loss", value=row.val_loss),),
        )
        write_record(tmp_path / row.run_id / "record.json", written)
        (tmp_path / row.run_id / "COMPLETE").touch()
    parser = argparse.ArgumentParser()
    command.add_parser(parser.add_subparsers())
    args = parser.parse_args(["forecast", str(tmp_path), "--flops", str(128 * BASE), "--json"])
    assert args.run(args) == 0
    assert len(Forecast.model_validate(json.loads(capsys.readouterr().out)).run_ids) == 10
    args = parser.parse_args(["forecast", str(tmp_path), "--flops", str(128 * BASE)])
    assert args.run(args) == 0
    assert "90% of new runs in [" in capsys.readouterr().out
    (tmp_path / "empty").mkdir()
    args = parser.parse_args(["forecast", str(tmp_path / "empty"), "--flops", "1e14"])
    with pytest.raises(UserError, match="no finished DiT run"):
        args.run(args)
