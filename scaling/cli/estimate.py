"""`scaling estimate`: training, inference and fleet compute, from named assumptions or from finished runs."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Group, Parameter
from cyclopts.validators import LimitedChoice

from scaling.cli.options import Json, PositiveFloat, PositiveInt, pairs_of
from scaling.cli.printing import print_note
from scaling.core.errors import UserError

if TYPE_CHECKING:
    from analysis.estimate.assumptions import Assumption
    from analysis.estimate.published import Published
    from analysis.estimate.worksheet import EstimateStep

BASIS = Group("Basis of the estimate: --preset or --runs", validator=LimitedChoice(1, 1))
TARGET = Group("Target of --runs: --flops or --loss", validator=LimitedChoice(0, 1))
VIDEO = Group("One video, with --runs")


@Parameter("*")
@dataclass(frozen=True)
class AssumptionOptions:
    """What changes the assumptions."""

    set_: Annotated[tuple[str, ...], Parameter("--set", help="NAME=VALUE changes an assumption; may be repeated")] = ()
    assumptions: Annotated[
        Path | None, Parameter(help="YAML file with assumptions that it changes; --set comes after it")
    ] = None


@Parameter("*")
@dataclass(frozen=True)
class RunsOptions:
    """What is estimated of finished runs."""

    flops: Annotated[PositiveFloat | None, Parameter(group=TARGET, help="training FLOPs of the target")] = None
    loss: Annotated[
        PositiveFloat | None,
        Parameter(group=TARGET, help="its validation loss; the forecast gives the FLOPs"),
    ] = None
    frames: Annotated[PositiveInt | None, Parameter(group=VIDEO, help="frames (default: as in the runs' data)")] = None
    height: Annotated[PositiveInt | None, Parameter(group=VIDEO, help="pixels (default: as in the runs' data)")] = None
    width: Annotated[PositiveInt | None, Parameter(group=VIDEO, help="pixels (default: as in the runs' data)")] = None


def run(
    *,
    preset: Annotated[str | None, Parameter(group=BASIS, help="shipped assumptions: sora")] = None,
    runs: Annotated[Path | None, Parameter(group=BASIS, help="folder of runs")] = None,
    of_runs: RunsOptions = RunsOptions(),
    changes: AssumptionOptions = AssumptionOptions(),
    plot: Annotated[Path | None, Parameter(help="a .png, .svg or .pdf of inference for each output")] = None,
    as_json: Json = False,
) -> int:
    """Prints every step of an estimate with unit and formula.

    --preset sora repeats the arithmetic of "Under The Hood: How OpenAI's Sora
    Model Works" (Factorial Funds, 2024), each published figure beside the
    computed one. --runs makes the same estimate for a model of your own, from
    the forecast of its runs and their measured speed.

    An assumption may be a range, LOW..HIGH (in a file: [low, high]). Every
    result then has the least and the most that the ranges allow, and an interval
    that holds nine in ten random draws from them. docs/estimate.md says more.

    examples:
      scaling estimate --preset sora
      scaling estimate --preset sora --set hardware_utilization=0.4
      scaling estimate --preset sora --set diffusion_steps=20..250 --plot out.svg
      scaling estimate --preset sora --assumptions mine.yaml --json
      scaling estimate --runs demo --flops 1.8e13
      scaling estimate --runs demo --loss 0.35 --frames 33
    """
    if runs is None:
        for name, value in asdict(of_runs).items():
            if value is not None:
                raise UserError(f"--{name} is for --runs, which is not given")
        _estimate_preset(preset or "", changes, plot, as_json=as_json)
        return 0
    if of_runs.flops is None and of_runs.loss is None:
        raise UserError("--runs needs a target: give --flops C or --loss L")
    if plot:
        raise UserError("--plot draws what --preset compares; with --runs there is nothing to draw")
    _estimate_runs(runs, of_runs, changes, as_json=as_json)
    return 0


def _estimate_preset(name: str, changes: AssumptionOptions, plot: Path | None, *, as_json: bool) -> None:
    from analysis.estimate.preset import load_preset
    from analysis.estimate.sora import OUTPUTS, estimate

    preset = load_preset(name)
    assumptions = _changed(preset.assumptions, changes)
    results = estimate(assumptions)
    if plot:
        from analysis.figures.estimate import outputs_figure
        from analysis.figures.style import save_figure

        save_figure(outputs_figure(results), plot)
        print_note(f"wrote {plot}")
    if as_json:
        from analysis.estimate.published import deviations

        compared = {
            name: {
                "published": deviations(preset.published[name], results[name])[0].published,
                "from_inputs": results[name].value,
            }
            for name in ("ai_minutes_per_day", "fleet_h100", "peak_h100")
        }
        numbers = {
            **_ends(results, "training_flops", "h100_months"),
            **_values(results, "inference_flops_per_video", "video_minutes_per_h100_hour"),
            **_ends(results, "break_even_minutes"),
            **_values(results, "dit_break_even_images"),
            "inference_flops_per_output": {model: results[name].value for model, (name, _) in OUTPUTS.items()},
            **compared,
        }
        _print_json(preset.title, numbers, assumptions, results, preset.published)
    else:
        from analysis.estimate.text import assumption_lines, joined, output_lines, result_lines

        steps = result_lines(results, preset.published)
        print(joined([preset.title, ""], assumption_lines(assumptions), steps, output_lines(results)))


def _estimate_runs(runs: Path, options: RunsOptions, changes: AssumptionOptions, *, as_json: bool) -> None:
    from analysis.estimate.from_runs import estimate_from_runs
    from sweeps.estimate_inputs import Video, assume

    video = Video(options.frames, options.height, options.width)
    assumptions, target = assume(runs, options.flops, options.loss, video)
    assumptions = _changed(assumptions, changes)
    results = estimate_from_runs(assumptions)
    title = f"The target of {runs}"
    if as_json:
        training = assumptions["training_flops"]
        numbers = {
            "training_flops": {"low": training.low, "high": training.high},
            **_ends(results, "training_device_hours"),
            **_values(results, "inference_flops_per_video", "video_minutes_per_device_hour"),
            **_ends(results, "break_even_minutes"),
            "target": asdict(target),
        }
        _print_json(title, numbers, assumptions, results, {})
    else:
        from analysis.estimate.text import assumption_lines, joined, result_lines

        notes = [f"! {note}" for note in target.notes]
        print(joined([title, *notes, ""], assumption_lines(assumptions), result_lines(results, {})))


def _changed(assumptions: "Mapping[str, Assumption]", changes: AssumptionOptions) -> "dict[str, Assumption]":
    """The assumptions after the user's file and the user's options."""
    from analysis.estimate.assumptions import override
    from scaling.core.specs import load_yaml

    changed = dict(assumptions)
    if changes.assumptions:
        document = load_yaml(changes.assumptions)
        if not isinstance(document, dict):
            raise UserError(f"{changes.assumptions}: expected a mapping such as 'hardware_utilization: 0.4'")
        changed = override(changed, document, str(changes.assumptions))
    return override(changed, pairs_of(changes.set_, "--set"), "--set")


def _ends(results: "Mapping[str, EstimateStep]", *names: str) -> dict[str, Any]:
    return {name: {"low": results[name].low, "high": results[name].high} for name in names}


def _values(results: "Mapping[str, EstimateStep]", *names: str) -> dict[str, float]:
    return {name: results[name].value for name in names}


def _print_json(
    title: str,
    numbers: dict[str, Any],
    assumptions: "Mapping[str, Assumption]",
    results: "Mapping[str, EstimateStep]",
    published: "Mapping[str, Published]",
) -> None:
    """One object: the numbers first, then everything that they follow from."""
    from analysis.estimate.published import deviations

    steps = []
    for name, result in results.items():
        comparisons = deviations(published[name], result) if name in published else ()
        steps.append({**asdict(result), "published": [asdict(comparison) for comparison in comparisons]})
    assumption_values = {
        name: {
            "value": assumption.point,
            "low": assumption.low,
            "high": assumption.high,
            **assumption.model_dump(include={"unit", "meaning", "source"}),
        }
        for name, assumption in assumptions.items()
    }
    document = {"title": title, **numbers, "assumptions": assumption_values, "steps": steps}
    print(json.dumps(document, indent=1, allow_nan=False))
