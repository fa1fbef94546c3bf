"""The estimate of a published analysis: repeated figure by figure, its error shown, other values and ranges."""

import math
import re
import subprocess
import sys
import textwrap
from itertools import product
from pathlib import Path

import numpy as np
import pytest

from analysis.estimate.assumptions import Assumption, override
from analysis.estimate.preset import load_preset
from analysis.estimate.published import Published, deviations
from analysis.estimate.quantity import Quantity
from analysis.estimate.sora import estimate
from analysis.estimate.text import number
from analysis.estimate.worksheet import DRAWS, MOST_RANGES, Worksheet
from analysis.figures.estimate import outputs_figure
from scaling.accounting import flops
from scaling.cli.main import main
from scaling.core.errors import UserError
from tests.estimate_command import PRESET, ask

SORA = load_preset("sora")
ROUNDED_ON_THE_WAY = {"inference_flops_per_video", "break_even_minutes", "video_minutes_per_h100_day"}
"""Printed figures that follow from the source's inputs only with a rounding in between: the notes say which."""
SLIP = {"ai_minutes_per_day", "fleet_h100", "peak_h100"}
"""What follows from the sum that the source gets wrong."""


def changed(**values):
    return estimate(override(SORA.assumptions, values, "test"))


# ---- The published analysis


def test_the_figures_that_were_asked_for(capsys):
    results = ask(capsys, *PRESET)
    assert results["training_flops"] == {"low": pytest.approx(1.08e25), "high": pytest.approx(2.7e25)}
    assert {end: round(months) for end, months in results["h100_months"].items()} == {"low": 4211, "high": 10528}
    assert results["inference_flops_per_video"] == pytest.approx(7.074e17)
    assert round(results["video_minutes_per_h100_hour"], 1) == 5.0
    assert {end: round(minutes / 1e6, 1) for end, minutes in results["break_even_minutes"].items()} == {
        "low": 15.3,
        "high": 38.2,
    }
    assert round(results["dit_break_even_images"] / 1e6, 1) == 7.6
    assert results["inference_flops_per_output"] == pytest.approx(
        {"DiT-XL": 1.31e14, "Sora": 7.074e17, "Llama 2 70B": 1.4e14, "GPT-4": 8.8e14}
    )
    assert results["peak_h100"] == {"published": 720000, "from_inputs": pytest.approx(14.95e6 / 120.84 * 8, rel=1e-4)}


@pytest.mark.parametrize("name", sorted(SORA.published))
def test_every_published_figure_is_what_the_inputs_give_or_says_why_not(name):
    compared = deviations(SORA.published[name], estimate(SORA.assumptions)[name])
    if name in SLIP:
        assert all(0.37 < figure.deviation < 0.4 for figure in compared)
    elif name in ROUNDED_ON_THE_WAY:
        assert all(abs(figure.deviation) < 0.01 for figure in compared)
        assert not all(figure.rounds_to_it for figure in compared)
    else:
        assert all(figure.rounds_to_it for figure in compared), compared


def test_only_989_4_teraflops_and_thirty_days_give_the_published_months():
    """What was inferred: no other peak of an H100's data sheet, and no other month."""
    published = SORA.published["h100_months"]
    peaks = {"SXM": 989.4e12, "as rounded": 989e12, "half the sparse": 989.5e12, "PCIe": 756e12, "sparse": 1979e12}
    matches = [
        (peak, days)
        for peak, days in product(peaks, (28, 30, 30.4, 365.25 / 12, 31))
        if all(
            deviation.rounds_to_it
            for deviation in deviations(
                published, changed(h100_flops_per_second=peaks[peak], days_per_month=days)["h100_months"]
            )
        )
    ]
    assert matches == [("SXM", 30)]


def test_unrounded_flops_of_dit_give_the_figures_that_524_gigaflops_do_not():
    multiply_adds = flops.class_dit_forward(1152, 28, latent_side=64) / 2
    results = changed(dit_flops_per_step=multiply_adds)
    for name in ("inference_flops_per_video", "break_even_minutes", "dit_flops_per_image"):
        assert all(deviation.rounds_to_it for deviation in deviations(SORA.published[name], results[name])), name


def test_the_slip_is_shown_beside_what_the_inputs_give(capsys):
    assert main(PRESET) == 0
    text = capsys.readouterr().out
    for shown in ("14.95M", "10.7M (+39.7%)", "123.7k", "published 89,000", "989.7k", "published 720k", "15.0M"):
        assert shown in text, shown
    assert 8.5 + 6.5 == 15.0
    assert (8.5 + 6.5) / 120 * 8 == 1.0
    five_percent = changed(youtube_ai_share=0.05)["ai_minutes_per_day"]
    assert deviations(SORA.published["ai_minutes_per_day"], five_percent)[0].rounds_to_it


def test_every_step_is_printed_with_unit_and_formula(capsys):
    assert main(PRESET) == 0
    text = capsys.readouterr().out
    for name, assumption in SORA.assumptions.items():
        assert f"  {name} " in text
        assert assumption.meaning in text
        assert assumption.source in text
    for result in estimate(SORA.assumptions).values():
        assert f"  {result.name} " in text
        assert f"= {result.formula}\n" in text
        assert result.unit == "1" or f" {result.unit}" in text


def test_formulas_are_what_was_computed():
    results = estimate(SORA.assumptions)
    values = {name: assumption.point for name, assumption in SORA.assumptions.items()}
    for name, result in results.items():
        values[name] = eval(result.formula.replace("×", "*"), {}, values)
        assert values[name] == pytest.approx(result.value, rel=1e-12), name


def test_formulas_keep_their_brackets():
    a, b, c = (Quantity(np.array(value), name) for value, name in ((2.0, "a"), (3.0, "b"), (5.0, "c")))
    for made, text in (
        ((a + b) * c, "(a + b) × c"),
        (a / (b * c), "a / (b × c)"),
        (a / (b / c), "a / (b / c)"),
        (a + b / c, "a + b / c"),
        (2 * (a + b), "2 × (a + b)"),
    ):
        assert made.formula == text
        assert made.rows == pytest.approx(eval(text.replace("×", "*"), {}, {"a": 2, "b": 3, "c": 5}))


def test_the_page_shows_what_the_command_prints(capsys):
    page = (Path(__file__).parents[1] / "docs" / "estimate.md").read_text()
    assert main(PRESET) == 0
    text = capsys.readouterr().out
    printed = re.search(r"^    fleet\n.*?GPT-4 .*?\n", page, re.M | re.S)[0]
    assert textwrap.dedent(printed) == text[text.index("fleet\n  video") :]
    ranges = re.search(r"`(--set size_multiplier=.*?)`:\n\n(.*?)\n\n", page, re.S)
    assert main([*PRESET, *ranges[1].split()]) == 0
    text = capsys.readouterr().out
    assert all(line.strip() in text for line in ranges[2].splitlines())


# ---- Other values


def test_every_assumption_matters():
    before = estimate(SORA.assumptions)
    for name, assumption in SORA.assumptions.items():
        value = assumption.point / 2 if assumption.at_most == 1 else assumption.point * 2
        after = changed(**{name: value})
        assert any(after[step].value != pytest.approx(before[step].value) for step in before), name


def test_changes_propagate_from_the_command_line_and_from_a_file(capsys, tmp_path):
    results = ask(capsys, *PRESET, "--set", "hardware_utilization=0.4", "--set", "diffusion_steps=50")
    assert round(results["h100_months"]["low"]) == round(4211.3 / 0.4)
    assert results["inference_flops_per_video"] == pytest.approx(7.074e17 / 5)
    assert results["video_minutes_per_h100_hour"] == pytest.approx(5.0351 * 0.4 * 5, rel=1e-4)
    assert results["dit_break_even_images"] == pytest.approx(7.63e6, rel=1e-2), "DiT-XL keeps its own steps"
    assert results["assumptions"]["diffusion_steps"]["source"] == "given by --set"
    file = tmp_path / "mine.yaml"
    file.write_text("diffusion_steps: 100\nhardware_utilization: 0.5\nsize_multiplier: [10, 30]\n")
    results = ask(capsys, *PRESET, "--assumptions", file, "--set", "diffusion_steps=50")
    assert results["assumptions"]["diffusion_steps"]["value"] == 50, "the command line comes last"
    assert results["training_flops"] == {"low": pytest.approx(3.6e24), "high": pytest.approx(2.7e25)}


def test_a_fleet_has_one_utilization():
    """That of service replaces that of training: the peak does not depend on both."""
    assert changed(hardware_utilization=0.4)["peak_h100"].value == pytest.approx(changed()["peak_h100"].value)


# ---- Ranges


def test_intervals_hold_the_point_and_the_draws():
    results = changed(diffusion_steps=[20, 250], size_multiplier="10..60", youtube_ai_share="0.05..0.15")
    for result in results.values():
        low, high = result.likely
        slack = 1e-9 * result.value
        assert result.low - slack <= low <= high <= result.high + slack
        assert result.low <= result.value <= result.high
    video = results["inference_flops_per_video"]
    assert (video.low, video.high) == pytest.approx((7.074e17 * 20 / 250 / 3, 7.074e17 * 2))
    assert video.value == pytest.approx(math.sqrt(video.low * video.high))


def test_what_cancels_does_not_widen():
    """Size multiplies training and inference alike, so the break-even does not depend on it."""
    narrow, wide = changed()["break_even_minutes"], changed(size_multiplier=[10, 60])["break_even_minutes"]
    assert (wide.low, wide.high) == pytest.approx((narrow.low, narrow.high))


def test_ends_are_exact_where_results_are_monotone():
    """Against every combination of ends, one estimate each."""
    ranges = {
        "size_multiplier": (10, 60),
        "hardware_utilization": (0.3, 0.5),
        "video_share": (0.2, 0.9),
        "youtube_ai_share": (0.05, 0.15),
        "fleet_utilization": (0.2, 0.6),
        "dataset_multiplier": (4, 10),
    }
    at_corners = [changed(**dict(zip(ranges, ends, strict=True))) for ends in product(*ranges.values())]
    for name, result in changed(**{name: list(ends) for name, ends in ranges.items()}).items():
        values = [corner[name].value for corner in at_corners]
        assert (result.low, result.high) == pytest.approx((min(values), max(values))), name


def test_likely_is_the_known_interval_of_a_log_uniform_range():
    assumption = Assumption(value=(1.0, 100.0), unit="1", meaning="", source="")
    sheet = Worksheet({"x": assumption})
    sheet.step("", "y", "1", 3 * sheet["x"])
    assert sheet.results["y"].likely == pytest.approx((3 * 10**0.1, 3 * 10**1.9), rel=5 / math.sqrt(DRAWS))
    assert sheet.results["y"].value == pytest.approx(30)


def test_too_many_ranges_are_refused():
    ranges = {name: [assumption.low * 0.5, assumption.low] for name, assumption in SORA.assumptions.items()}
    assert len(ranges) > MOST_RANGES
    with pytest.raises(UserError, match=f"at most {MOST_RANGES}"):
        estimate(override(SORA.assumptions, ranges, "test"))


def test_the_same_ranges_give_the_same_numbers():
    assert changed(diffusion_steps=[20, 250]) == changed(diffusion_steps="20..250")


# ---- Printing


@pytest.mark.parametrize(
    ("printed", "value", "rounds"),
    [("1.1e25", 1.08e25, True), ("6.5e6", 6.45e6, True), ("6.5e6", 6.44e6, False), ("708e15", 7.074e17, False)],
)
def test_rounding_is_that_of_the_printed_digits(printed, value, rounds):
    sheet = Worksheet({"x": Assumption(value=value, unit="1", meaning="", source="")})
    sheet.step("", "y", "1", sheet["x"])
    assert deviations(Published(printed=printed), sheet.results["y"])[0].rounds_to_it == rounds


@pytest.mark.parametrize(
    ("value", "unit", "text"),
    [
        (4211.3, "1", "4,211"),
        (99_999.7, "1", "100,000"),
        (15_267_175, "minutes", "15.27M"),
        (7.0740e17, "FLOP", "7.074e17"),
        (524e9, "FLOP", "5.24e11"),
        (0.38994, "1", "0.3899"),
        (2e-5, "1", "2e-5"),
    ],
)
def test_numbers_are_short(value, unit, text):
    assert number(value, unit) == text


@pytest.mark.parametrize("suffix", ["png", "svg"])
def test_the_figure_is_written(capsys, tmp_path, suffix):
    path = tmp_path / f"outputs.{suffix}"
    ask(capsys, *PRESET, "--set", "diffusion_steps=20..250", "--plot", path)
    assert path.stat().st_size > 5_000


def test_the_figure_shows_the_values_on_a_log_scale():
    results = estimate(SORA.assumptions)
    (axes,) = outputs_figure(results).axes
    assert axes.get_xscale() == "log"
    shown = sorted(float(x) for dots in axes.collections for x in dots.get_offsets()[:, 0])
    assert shown == pytest.approx([1.31e14, 1.4e14, 8.8e14, 7.074e17])


def test_no_torch_is_imported():
    code = (
        "import sys; from scaling.cli.main import main; assert main(['estimate', '--preset', 'sora', '--json']) == 0; "
        "import sweeps.estimate_inputs, analysis.estimate.from_runs, analysis.figures.estimate; "
        "assert 'torch' not in sys.modules"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
