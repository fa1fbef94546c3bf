"""Laws of N and D: planted ones recovered, published fits reproduced, verdicts, intervals and their calibration."""

import subprocess
import sys

import numpy as np
import pandas as pd
import pytest

from analysis.laws.bootstrap import bootstrap
from analysis.laws.fit import fit_law
from analysis.laws.forms import CHINCHILLA, TWO_AXES, law
from analysis.laws.newton import Objective, minimize
from analysis.laws.points import Points, points
from analysis.laws.repeats import effective_tokens
from analysis.laws.search import Problem
from analysis.laws.varpro import project
from scaling.core.errors import UserError
from tests.public_data import DATA, ROOT, needs_data

PLANTED = {"E": 0.3, "A": 90.0, "B": 400.0, "alpha": 0.45, "beta": 0.5}
SQUARES = Objective(delta=np.inf)


def grid(sizes: int = 6) -> dict[str, np.ndarray]:
    N, D = (axis.ravel() for axis in np.meshgrid(np.geomspace(5e4, 2e6, sizes), np.geomspace(1e6, 6e7, sizes)))
    return {"n_params": N, "num_tokens": D, "train_flops": 6 * N * D}


def planted(noise: float = 0.0, seed: int = 0, sizes: int = 6) -> Points:
    axes = grid(sizes)
    losses = CHINCHILLA.predict(PLANTED, axes)
    return points(axes, losses * np.exp(noise * np.random.default_rng(seed).standard_normal(len(losses))))


def epoch(highest: int = 5) -> Points:
    rows = pd.read_csv(DATA / "epoch_chinchilla" / "svg_extracted_data.csv")
    rows = rows.nsmallest(len(rows) - highest, "loss")
    N, C = rows["Model Size"].to_numpy(), rows["Training FLOP"].to_numpy()
    return points({"n_params": N, "num_tokens": C / (6 * N), "train_flops": C}, rows["loss"])


def test_recovers_a_planted_law() -> None:
    fit = fit_law(planted(), CHINCHILLA)
    assert fit.status == "converged"
    assert fit.params == pytest.approx(PLANTED, rel=1e-6)
    assert fit.a == pytest.approx(0.5 / 0.95, rel=1e-6)
    assert fit.a + fit.b == pytest.approx(1)


@pytest.mark.parametrize(
    ("name", "params"),
    [
        ("chinchilla-no-floor", {"A": 90.0, "B": 400.0, "alpha": 0.45, "beta": 0.5}),
        ("shared", {"E": 0.3, "A": 90.0, "B": 400.0, "gamma": 0.4}),
        ("kaplan", {"A": 5e6, "B": 2e7, "kappa": 0.8, "beta": 0.12}),
        ("repeated", {"E": 0.3, "A": 90.0, "B": 400.0, "alpha": 0.45, "beta": 0.5, "R": 6.0}),
    ],
)
def test_every_form_of_two_axes_recovers_its_own_law(name: str, params: dict[str, float]) -> None:
    axes = grid()
    axes["unique_tokens"] = axes["num_tokens"] / np.resize([0.5, 2, 8, 32, 1], 36)
    fit = fit_law(points(axes, law(name).predict(params, axes)), law(name))
    assert fit.params == pytest.approx(params, rel=1e-4)
    assert fit.status == "converged"


@pytest.mark.parametrize("name", ["power", "power-floor", "metric"])
def test_every_form_of_one_axis_recovers_its_own_law(name: str) -> None:
    axes = {"val_loss": np.geomspace(0.3, 0.9, 9)}
    form = law(name, "val_loss")
    params = {parameter: {"E": 40.0, "K": 300.0}.get(parameter, 1.7) for parameter in form.names}
    fit = fit_law(points(axes, form.predict(params, axes)), form)
    assert fit.params == pytest.approx(params, rel=1e-6)
    assert fit.a is None


def test_units_of_size_and_data_change_nothing_but_their_constants() -> None:
    runs = planted(noise=0.01)
    fit = fit_law(runs, CHINCHILLA)
    units = {"n_params": runs.axes["n_params"] / 1e6, "num_tokens": runs.axes["num_tokens"] / 1e9}
    scaled = fit_law(points(units, runs.metric), CHINCHILLA)
    assert scaled.objective == pytest.approx(fit.objective, rel=1e-9)
    assert [scaled.params[name] for name in ("E", "alpha", "beta")] == pytest.approx(
        [fit.params[name] for name in ("E", "alpha", "beta")], rel=1e-6
    )
    assert scaled.params["A"] == pytest.approx(fit.params["A"] * 1e6 ** -fit.params["alpha"], rel=1e-5)


@pytest.mark.parametrize("form", [form.name for form in TWO_AXES])
@pytest.mark.parametrize("objective", [Objective(), SQUARES, Objective(np.inf, raw=True)], ids=["huber", "log", "raw"])
def test_derivatives_are_those_of_the_objective(form: str, objective: Objective) -> None:
    """Central differences of the value and the gradient, at a point that is no optimum."""
    axes = {**grid(4), "unique_tokens": grid(4)["num_tokens"] / 3}
    problem = Problem(law(form), points(axes, CHINCHILLA.predict(PLANTED, axes)), objective)
    design = problem.design(5.0 if law(form).repeats else None)
    theta = problem.optima()[0].theta[: design.slopes.shape[2]] + 0.05
    metric, weights = problem.metric[None], np.linspace(0.5, 1.5, 16)[None]

    def value(at: np.ndarray) -> float:
        logs = design.log_predictions(at[None])
        residuals = metric - (np.exp(logs) if objective.raw else logs)
        return float((weights * objective.huber(residuals)).sum())

    def gradient(at: np.ndarray) -> np.ndarray:
        return design.derivatives(at[None], metric, weights, objective)[0][0]

    step = 1e-6 * np.eye(len(theta))
    slopes = [(value(theta + s) - value(theta - s)) / 2e-6 for s in step]
    bends = [(gradient(theta + s) - gradient(theta - s)) / 2e-6 for s in step]
    exact, hessian, _ = design.derivatives(theta[None], metric, weights, objective)
    assert exact[0] == pytest.approx(slopes, rel=1e-5, abs=1e-9)
    assert hessian[0] == pytest.approx(np.array(bends), rel=1e-4, abs=1e-7)


@needs_data
def test_noise_free_public_data_to_a_millionth() -> None:
    rows = pd.read_json(DATA / "cs336" / "isoflops_curves.json")
    N = rows["parameters"].to_numpy(float)
    fit = fit_law(
        points({"n_params": N, "num_tokens": rows["compute_budget"] / (6 * N)}, rows["final_loss"]), CHINCHILLA
    )
    assert fit.params == pytest.approx({"E": 2.69, "A": 1606.4, "B": 3210.7, "alpha": 0.34, "beta": 0.36}, rel=1e-7)
    assert fit.a == pytest.approx(0.5142857, abs=1e-7)


@needs_data
def test_reaches_the_optimum_of_the_chinchilla_replication() -> None:
    """Besiroglu et al. 2024 print a point slightly above the minimum of their own objective."""
    fit = fit_law(epoch(), CHINCHILLA)
    assert fit.objective <= 0.00101827403
    assert fit.status == "converged"
    expected = {"E": 1.8172181, "A": 477.825868, "B": 2143.41736, "alpha": 0.3473105, "beta": 0.36717243}
    assert fit.params == pytest.approx(expected, rel=1e-6)
    assert fit.a == pytest.approx(0.51389952, abs=1e-7)


@needs_data
def test_five_outliers_move_the_exponent_by_a_twentieth() -> None:
    fit = fit_law(epoch(highest=0), CHINCHILLA)
    assert fit.objective == pytest.approx(0.00182601052, abs=1e-11)
    assert fit.a == pytest.approx(0.5646, abs=1e-4)


@needs_data
def test_least_squares_of_the_217_cheap_runs() -> None:
    """The numbers of ml-scalefit, recomputed: N in millions, D in billions, squared error of the loss itself."""
    runs = epoch()
    runs = runs.take(runs.axes["train_flops"] < 1e21)
    axes = {"n_params": runs.axes["n_params"] / 1e6, "num_tokens": runs.axes["num_tokens"] / 1e9}
    fit = fit_law(points(axes, runs.metric), CHINCHILLA, Objective(np.inf, raw=True))
    expected = {"E": 1.90509227, "A": 4.00052229, "B": 1.05094768, "alpha": 0.35105819, "beta": 0.4587418}
    assert (len(runs), 2 * fit.objective) == (217, pytest.approx(0.0624142933, rel=1e-7))
    assert fit.params == pytest.approx(expected, rel=1e-6)


@needs_data
def test_bootstrap_agrees_with_the_4000_published_draws() -> None:
    draws = bootstrap(fit_law(epoch(), CHINCHILLA), draws=4000, seed=0)
    published = {"E": (1.769, 1.871), "A": (285.214, 743.626), "B": (1042.357, 5810.344), "alpha": (0.317, 0.373),
                 "beta": (0.331, 0.415)}  # fmt: skip
    for name, (low, high) in published.items():
        assert draws.intervals()[name] == pytest.approx((low, high), abs=0.05 * (high - low)), name
    assert float(np.std(draws.derived()["a"])) == pytest.approx(0.020, abs=0.002)


def test_one_copy_of_a_bootstrap_is_a_fit_of_the_drawn_runs() -> None:
    """The batch of copies and a fit of each alone end at the same place."""
    fit = fit_law(planted(noise=0.02, sizes=7), CHINCHILLA, SQUARES)
    rng = np.random.default_rng(0)
    times = rng.multinomial(49, np.full(49, 1 / 49), 5).astype(float)
    thetas, values = fit.problem.copies(np.tile(fit.points.metric, (5, 1)), times, fit.optima[0].theta[None])
    for theta, value, weights in zip(thetas, values, times, strict=True):
        rows = np.repeat(np.arange(49), weights.astype(int))
        single_fit = fit_law(fit.points.take(rows), CHINCHILLA, SQUARES)
        assert single_fit.objective == pytest.approx(value, rel=1e-9)
        assert single_fit.params["alpha"] == pytest.approx(theta[3], rel=1e-5)


def test_runs_are_resampled_whole() -> None:
    """Ten copies of every point under one name tell as little as the point alone; under ten names they tell more."""
    single = planted(noise=0.02, seed=1)
    rows = np.repeat(np.arange(len(single)), 10)
    copies = single.take(rows)
    copies_as_runs = points(copies.axes, copies.metric)

    def width(runs: Points) -> float:
        low, high = bootstrap(fit_law(runs, CHINCHILLA, SQUARES), draws=400, seed=0).intervals()["alpha"]
        return high - low

    assert width(copies) == pytest.approx(width(single), rel=1e-6)
    assert width(copies_as_runs) < width(single) / 2


def test_a_few_runs_keep_their_design_and_cover_the_truth() -> None:
    fit = fit_law(planted(noise=0.01, seed=3, sizes=4), CHINCHILLA, SQUARES)
    draws = bootstrap(fit, draws=200, seed=0)
    assert draws.method == "wild"
    assert draws.intervals() == bootstrap(fit, draws=200, seed=0).intervals()
    for name, value in PLANTED.items():
        low, high = draws.intervals()[name]
        assert low < value < high, name


def test_a_new_run_is_less_certain_than_the_law() -> None:
    draws = bootstrap(fit_law(planted(noise=0.02), CHINCHILLA, SQUARES), draws=400, seed=0)
    at = {"n_params": np.array([1e7]), "num_tokens": np.array([1e8])}
    low, high = draws.band(at)
    new = np.quantile(draws.new_runs(at), [0.025, 0.975], axis=0)
    assert (new[1] - new[0])[0] > (high - low)[0]
    assert low[0] < CHINCHILLA.predict(PLANTED, at)[0] < high[0]


def test_a_loss_without_a_floor_hits_the_bound() -> None:
    axes = grid()
    losses = 90 * axes["n_params"] ** -0.45 + 400 * axes["num_tokens"] ** -0.5
    shrunk = fit_law(points(axes, losses - 0.02), CHINCHILLA)
    assert (shrunk.status, shrunk.params["E"]) == ("bound_hit", 0.0)
    assert "E is 0" in shrunk.reason


def test_data_that_always_grow_with_size_are_underdetermined() -> None:
    N = np.geomspace(1e6, 1e9, 10)
    runs = points({"n_params": N, "num_tokens": 20 * N}, 1.7 + 400 / N**0.34 + 400 / (20 * N) ** 0.3)
    fit = fit_law(runs, CHINCHILLA)
    assert fit.status == "underdetermined"
    assert "condition number" in fit.reason


def test_a_term_that_is_not_there_is_underdetermined() -> None:
    axes = grid()
    losses = (0.3 + 400 * axes["num_tokens"] ** -0.5) * axes["n_params"] ** 0.01
    fit = fit_law(points(axes, losses), CHINCHILLA)
    assert (fit.status, fit.reason) == ("underdetermined", "A is 0, so alpha means nothing")


def test_two_optima_that_are_as_good_are_both_named() -> None:
    """Sixteen noisy runs and a half-life of repetition: the published one is a local optimum among several, too."""
    runs = planted(noise=0.03, seed=55, sizes=4)
    axes = {**runs.axes, "unique_tokens": runs.axes["num_tokens"] / np.resize([1, 2, 8, 32], 16)}
    fit = fit_law(points(axes, runs.metric), law("repeated"))
    assert fit.status == "multimodal"
    assert "another optimum is as good" in fit.reason
    best, rival = fit.optima[:2]
    assert best.value < rival.value < 1.01 * best.value
    assert abs(np.log(best.theta[-1] / rival.theta[-1])) > 0.1


def test_repeats_that_cost_nothing_hit_the_bound() -> None:
    axes = grid()
    axes["unique_tokens"] = axes["num_tokens"] / np.resize([1, 2, 8], 36)
    fit = fit_law(points(axes, CHINCHILLA.predict(PLANTED, axes)), law("repeated"))
    assert fit.status == "bound_hit"
    assert "R is" in fit.reason


def test_effective_tokens_are_those_of_the_paper() -> None:
    """Muennighoff et al. 2023: four passes are nearly as good as new data, and the worth of any number is bounded."""
    worth = effective_tokens(np.array([50.0, 100.0, 400.0, 1e9]), np.array(100.0), 15.39)
    assert worth == pytest.approx([50, 100, 100 + 1539 * (1 - np.exp(-3 / 15.39)), 1639])


def test_a_fixed_parameter_stays() -> None:
    fit = fit_law(planted(noise=0.01), CHINCHILLA.fix(E=0.25, beta=0.5), SQUARES)
    assert (fit.params["E"], fit.params["beta"]) == pytest.approx((0.25, 0.5))
    assert fit.freedom == 36 - 3
    assert bootstrap(fit, draws=50, seed=0).intervals()["E"] == pytest.approx((0.25, 0.25))
    with pytest.raises(UserError, match="A of chinchilla cannot be fixed; choose from E, alpha, beta"):
        CHINCHILLA.fix(A=1.0)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda p: p.take(np.arange(5)), "5 runs are too few for the 5 parameters of chinchilla; give at least 6"),
        (lambda p: points(p.axes, np.where(np.arange(36) == 2, np.nan, p.metric)), "metric is nan in run 3"),
        (lambda p: points(p.axes, -p.metric), "metric is -"),
        (lambda p: points(p.axes, 0 * p.metric), "metric is 0 in run 1, but must be a positive number"),
        (
            lambda p: points({**p.axes, "n_params": np.full(36, 1e6)}, p.metric),
            "all runs have the same n_params (1e+06)",
        ),
        (lambda p: points({**p.axes, "num_tokens": np.full(36, 1e6)}, p.metric), "all runs have the same num_tokens"),
    ],
)
def test_refuses_what_no_law_can_be_fitted_to(change, message: str) -> None:
    with pytest.raises(UserError) as error:
        fit_law(change(planted()), CHINCHILLA)
    assert message in str(error.value)
    assert "\n" not in str(error.value)


def test_unrepeated_data_say_nothing_of_repeats() -> None:
    axes = {**grid(), "unique_tokens": grid()["num_tokens"]}
    with pytest.raises(UserError, match="fit the law chinchilla"):
        fit_law(points(axes, CHINCHILLA.predict(PLANTED, axes)), law("repeated"))


def test_the_minimizer_says_where_it_did_not_settle(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("analysis.laws.newton.STEPS", 2)
    problem = Problem(CHINCHILLA, planted(noise=0.01), Objective())
    start = problem.design().low.clip(-3, 3)[None]
    assert not minimize(problem.design(), Objective(), problem.metric[None], np.ones((1, 36)), start).converged[0]


def test_projection_is_the_constrained_optimum() -> None:
    from scipy.optimize import nnls

    rng = np.random.default_rng(0)
    columns, losses = rng.standard_normal((5, 9, 3)), rng.uniform(0.5, 1.5, (7, 9))
    scale = rng.uniform(0.5, 2, 9)
    projected = project(columns, losses, scale)
    for at in range(5):
        for copy in range(7):
            _, norm = nnls(columns[at] / scale[:, None], losses[copy] / scale)
            assert projected.surface[at, copy] == pytest.approx(norm**2)


def test_analysis_and_its_commands_never_import_torch() -> None:
    packages = "analysis.laws.assessment, analysis.forecast.answer, analysis.figures.laws"
    modules = f"{packages}, scaling.cli.fit, scaling.cli.forecast"
    code = f"import sys, {modules}; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False).returncode == 0
