"""How far a law may be trusted: holdouts, sensitivity, noise, cross-checks, learning curves, suggested runs."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from analysis.forecast.by_law import ByLaw
from analysis.forecast.runs_to_add import suggest
from analysis.laws.bootstrap import bootstrap
from analysis.laws.budgets import budget_numbers, is_isoflop
from analysis.laws.fit import fit_law
from analysis.laws.forms import CHINCHILLA, law
from analysis.laws.noise import noise_weights, run_noise
from analysis.laws.optima import allometry
from analysis.laws.optimal_split import best_metric, best_split
from analysis.laws.points import Points, points
from analysis.laws.power import PowerLaw
from analysis.laws.sensitivity import sensitivity
from analysis.laws.validation import compare_forms, expanding_windows
from analysis.tables.read import read_table
from benchmarks.extrapolation import curve_errors
from benchmarks.law_calibration import SWEEPS, SimulatedSweep, coverage
from scaling.core.errors import UserError
from tests.public_data import DATA, needs_data
from tests.test_law import PLANTED, SQUARES, planted

SIX_N = PowerLaw(6.0, 1.0)


def isoflops(budgets: int = 4, sizes: int = 5, noise: float = 0.0, seed: int = 0, params: dict | None = None) -> Points:
    """Budgets a factor of four apart, sizes evenly about the best."""
    params = params or PLANTED
    C = np.repeat(1e12 * 4.0 ** np.arange(budgets), sizes)
    N = best_split(CHINCHILLA, params, C, SIX_N)[0] * np.tile(np.geomspace(0.25, 4, sizes), budgets)
    axes = {"n_params": N, "num_tokens": C / (6 * N), "train_flops": C}
    losses = CHINCHILLA.predict(params, axes)
    return points(axes, losses * np.exp(noise * np.random.default_rng(seed).standard_normal(len(losses))))


def saved(runs: Points, path: Path) -> Path:
    pd.DataFrame({**runs.axes, "loss": runs.metric}).to_csv(path, index=False)
    return path


def scatter_of(x: np.ndarray) -> np.ndarray:
    """Scatter that no parabola in x takes up any of."""
    columns = np.vander(x, 3)
    noise = np.random.default_rng(0).standard_normal(len(x))
    return noise - columns @ np.linalg.lstsq(columns, noise, rcond=None)[0]


def test_holdouts_predict_a_planted_law_and_leave_the_largest_out() -> None:
    holdouts = expanding_windows(isoflops(noise=0.005), CHINCHILLA, SQUARES, seed=0)
    assert [holdout.n_seen for holdout in holdouts] == [10, 15]
    assert [holdout.n_predicted for holdout in holdouts] == [10, 5]
    last = holdouts[-1]
    assert (last.up_to_flops, last.reach) == (pytest.approx(1.6e13), pytest.approx(4))
    assert last.rms < 0.03
    assert last.bias == pytest.approx(np.mean(last.errors))
    many = [expanding_windows(isoflops(noise=0.005, seed=seed), CHINCHILLA, SQUARES, seed=0)[-1] for seed in range(12)]
    assert 0.8 <= np.mean([holdout.covered for holdout in many]) <= 1


def test_a_law_that_bends_is_predicted_too_optimistically() -> None:
    """Losses that stop falling at the last budget, as where data repeat: the signed error says which way."""
    runs = isoflops(budgets=5)
    losses = np.maximum(runs.metric, runs.metric[runs.axes["train_flops"] < 2e14].min() * 1.02)
    late = expanding_windows(points(runs.axes, losses), CHINCHILLA, SQUARES, seed=0)[-1]
    assert late.bias < 0


def test_forms_are_ranked_by_how_they_predict() -> None:
    """The runs of a law with a floor and unequal exponents: the forms without either predict larger budgets worse."""
    runs = isoflops(budgets=6, noise=0.001, params=PLANTED | {"alpha": 0.3, "beta": 0.6, "A": 20.0, "B": 3000.0})
    ranked = compare_forms(runs, [law("chinchilla-no-floor"), law("shared"), CHINCHILLA], SQUARES)
    assert ranked[0].law == "chinchilla"
    assert ranked[0].rms < ranked[1].rms / 2


def test_what_a_fit_hangs_on_is_listed_with_its_numbers() -> None:
    runs = planted(noise=0.005)
    losses = runs.metric.copy()
    losses[np.argmax(losses)] *= 1.5
    variants = sensitivity(fit_law(points(runs.axes, losses), CHINCHILLA, SQUARES))
    settings = {variant.setting: variant for variant in variants}
    assert settings["without the 1 highest"].n_points == 35
    assert settings["without the 1 highest"].params["alpha"] == pytest.approx(0.45, abs=0.03)
    assert {variant.choice for variant in variants} == {"outliers", "delta", "window"}
    assert min(v.n_points for v in variants if v.choice == "window") == 18


def test_run_noise_is_told_from_evaluation_noise() -> None:
    rng = np.random.default_rng(0)
    kinds, seeds = 60, 4
    axes = {"n_params": np.repeat(np.geomspace(1e5, 1e7, kinds), seeds)}
    truth = np.repeat(np.linspace(0.6, 0.3, kinds), seeds)
    errors = 0.01 * truth * np.where(np.arange(kinds * seeds) % 2, 1.0, 3.0)
    metric = truth * np.exp(0.02 * rng.standard_normal(kinds * seeds)) + errors * rng.standard_normal(kinds * seeds)
    noise = run_noise(axes, metric, errors)
    assert noise.freedom == kinds * (seeds - 1)
    assert noise.run == pytest.approx(0.02, rel=0.15)
    assert noise.evaluation == pytest.approx(0.01 * np.sqrt(5), rel=0.02)
    weights = noise_weights(noise, metric, errors)
    assert weights[1] / weights[0] == pytest.approx((0.02**2 + 0.03**2) / (0.02**2 + 0.01**2), rel=0.25)
    with pytest.raises(UserError, match="repeat three sizes"):
        run_noise({"n_params": np.geomspace(1e5, 1e7, 5)}, metric[:5], None)


def test_weights_pull_a_fit_to_the_runs_that_are_known_well() -> None:
    runs = planted()
    bent = runs.metric * np.where(runs.axes["n_params"] > 1e6, 1.1, 1.0)
    weights = np.where(runs.axes["n_params"] > 1e6, 1e-6, 1.0)
    assert fit_law(points(runs.axes, bent, weights=weights), CHINCHILLA, SQUARES).params["alpha"] == pytest.approx(
        0.45, abs=1e-4
    )


def test_budgets_are_told_from_scattered_runs() -> None:
    C = np.repeat([1e15, 4e15, 1.6e16], 4) * np.tile([1, 1.01, 0.98, 1.03], 3)
    assert budget_numbers(C[::-1]).tolist() == [2] * 4 + [1] * 4 + [0] * 4
    assert is_isoflop(C)
    scattered = np.geomspace(1e15, 1e18, 60)
    assert np.bincount(budget_numbers(scattered)).tolist() == [10] * 6
    assert not is_isoflop(scattered)


@needs_data
def test_approaches_one_and_two_on_noise_free_public_data() -> None:
    """The envelope falls into the trap of a coarse grid; the truth is .5142857."""
    table = read_table(DATA / "cs336" / "isoflops_curves.json")
    assert allometry(table, "isoflop").a == pytest.approx(0.5146, abs=1e-4)
    assert allometry(table, "envelope").a == pytest.approx(0.4687, abs=1e-4)


@pytest.mark.parametrize(
    ("shape", "refusal"),
    [
        (lambda x: (x - 3) ** 2, "the minimum lies above the sizes tried; add a larger one"),
        (lambda x: -((x - 0.1) ** 2), "the parabola opens downwards"),
        (lambda x: (x - 1.2) ** 2, "edge minimum: it lies between the last two sizes tried; add one beyond"),
        (
            lambda x: 0.02 * x**2 + scatter_of(x),
            "no curvature: the parabola cannot be told from a straight line; add sizes further apart",
        ),
    ],
)
def test_a_parabola_that_shows_no_minimum_is_refused_with_its_kind(tmp_path: Path, shape, refusal: str) -> None:
    runs = isoflops(budgets=3, sizes=7)
    x = np.log(np.geomspace(0.25, 4, 7))
    losses = np.where(runs.axes["train_flops"] > 1e13, np.tile(0.4 + 0.01 * shape(x), 3), runs.metric)
    result = allometry(read_table(saved(points(runs.axes, losses), tmp_path / "t.csv")), "isoflop")
    assert [optimum.refusal for optimum in result.optima] == ["", "", refusal]
    assert result.used == 2


def test_no_two_minima_give_no_exponents(tmp_path: Path) -> None:
    runs = isoflops(budgets=2, sizes=5)
    path = saved(points(runs.axes, 1 / runs.metric), tmp_path / "t.csv")
    with pytest.raises(UserError, match=r"0 optima by isoflop give no exponents .*opens downwards"):
        allometry(read_table(path), "isoflop")


@needs_data
def test_learning_curves_are_extrapolated_better_than_the_baseline_in_every_domain() -> None:
    """92 curves (Alabdulmohsin et al. 2022): the baseline is the same law without weights towards the later points."""
    plain, weighted = (curve_errors(DATA / "revisiting", "power-floor", power) for power in (0.0, 0.5))
    assert sum(map(len, weighted.values())) == 92
    for domain, baseline in {"IC": 0.0631, "NMT": 0.0561, "LM": 0.0013, "BB": 0.0101}.items():
        assert np.median(plain[domain]) == pytest.approx(baseline, abs=6e-5)
        assert np.median(weighted[domain]) < baseline


def test_the_best_split_is_the_least_loss_of_its_compute() -> None:
    per_token = PowerLaw(40.0, 0.9)
    for name, params in (("chinchilla", PLANTED), ("kaplan", {"A": 5e6, "B": 2e7, "kappa": 0.8, "beta": 0.12})):
        N, D = best_split(law(name), params, 1e14, per_token)
        assert float(per_token(N)) * D == pytest.approx(1e14)
        sizes = N * np.geomspace(0.9, 1.1, 2001)
        losses = law(name).predict(params, {"n_params": sizes, "num_tokens": 1e14 / per_token(sizes)})
        assert sizes[losses.argmin()] == pytest.approx(N, rel=1e-3)


def test_a_budget_and_a_target_are_two_sides_of_one_frontier() -> None:
    draws = bootstrap(fit_law(isoflops(noise=0.005), CHINCHILLA, SQUARES), draws=300, seed=0)
    optimal = ByLaw(draws).optimal_run(1e15)
    back = ByLaw(draws).compute_for_loss(optimal.metric.value)
    assert back.train_flops.value == pytest.approx(1e15, rel=1e-6)
    assert back.n_params.value == pytest.approx(optimal.n_params.value, rel=1e-6)
    assert (back.n_params.low, back.n_params.high) == pytest.approx(
        (optimal.n_params.low, optimal.n_params.high), rel=1e-6
    )
    truth = float(best_metric(CHINCHILLA, PLANTED, 1e15, SIX_N))
    assert optimal.metric.low < truth < optimal.metric.high
    with pytest.raises(UserError, match=r"the law never reaches 0\.1 .* its floor E is 0\.29"):
        ByLaw(draws).compute_for_loss(0.1)


def test_a_target_near_the_floor_has_no_upper_end_of_compute() -> None:
    draws = bootstrap(fit_law(isoflops(noise=0.02), CHINCHILLA, SQUARES), draws=300, seed=0)
    near_floor = ByLaw(draws).compute_for_loss(draws.fit.params["E"] * 1.02)
    assert near_floor.train_flops.high is None
    (note,) = near_floor.notes
    assert int(note.split("%")[0]) > 5
    assert note.endswith("of the bootstrap's laws never reach it")


@pytest.mark.parametrize("share", [0.5, 1.0])
def test_suggested_runs_beat_evenly_spread_ones_of_equal_cost(share: float) -> None:
    """In simulation, three sweeps each: the interval of the law at 8 times the largest compute is narrower."""
    for seed in range(3):
        runs = isoflops(budgets=3, sizes=4, noise=0.01, seed=seed)
        draws = bootstrap(fit_law(runs, CHINCHILLA, SQUARES), draws=200, seed=0)
        largest = runs.axes["train_flops"].max()
        advice = suggest(draws, 8 * largest, share * largest, seed=seed)
        assert sum(run.train_flops for run in advice.runs) == pytest.approx(share * largest)
        assert advice.width_then < advice.width_even < advice.width_now


def test_intervals_hold_as_often_as_they_promise() -> None:
    """A short run of the simulation behind docs/laws.md; 150 trials are within 5 points of the truth."""
    shares = coverage(SimulatedSweep(6, 6, 6, 4, 0.01, np.inf), 150)
    for name, share in shares.items():
        assert 0.83 <= share <= 0.97, name


@pytest.mark.slow
def test_intervals_hold_in_every_design_that_the_docs_promise_it_for() -> None:
    for sweep in SWEEPS[2:6]:
        shares = coverage(sweep, 400)
        assert 0.87 <= np.mean(list(shares.values())) <= 0.93, sweep
