"""`scaling estimate`: training, inference and fleet compute, from named assumptions or from finished runs."""

import argparse
import json
import math
import sys
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from scaling.core.errors import UserError

if TYPE_CHECKING:
    from analysis.estimate.assumptions import Assumption
    from analysis.estimate.published import Published
    from analysis.estimate.worksheet import EstimateStep

DESCRIPTION = """Prints every step of an estimate with unit and formula.

--preset sora repeats the arithmetic of "Under The Hood: How OpenAI's Sora Model Works" (Factorial Funds, 2024), each
published figure beside the computed one. --runs makes the same estimate for a model of your own, from the forecast of
its runs and their measured speed.

An assumption may be a range, LOW..HIGH (in a file: [low, high]). Every result then has the least and the most that
the ranges allow, and what nine in ten random draws from them give. docs/estimate.md says more."""

EXAMPLES = """examples:
  scaling estimate --preset sora
  scaling estimate --preset sora --set hardware_utilization=0.4 --set diffusion_steps=20..250 --plot outputs.svg
  scaling estimate --preset sora --assumptions mine.yaml --json
  scaling estimate --runs demo --flops 1.8e13
  scaling estimate --runs demo --loss 0.35 --frames 33 --set device_flops_per_second=4e14"""


def add_parser(subparsers: Any) -> None:
    """Adds the verb to the command line."""
    parser = subparsers.add_parser(
        "estimate",
        help="training, inference and fleet compute, from named assumptions or from finished runs",
        description=DESCRIPTION,
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    basis = parser.add_mutually_exclusive_group(required=True)
    basis.add_argument("--preset", metavar="NAME", help="shipped assumptions: sora")
    basis.add_argument("--runs", type=Path, metavar="RUNS", help="folder of runs")
    parser.add_argument(
        "--set", action="append", default=[], metavar="NAME=VALUE", help="change an assumption; may be repeated"
    )
    parser.add_argument(
        "--assumptions", type=Path, metavar="FILE", help="change those that a YAML file names; --set comes after it"
    )
    parser.add_argument("--plot", type=Path, metavar="FILE", help="draw inference per output to .png, .svg or .pdf")
    parser.add_argument("--json", action="store_true", help="print the estimate as JSON")
    own = parser.add_argument_group("with --runs")
    target = own.add_mutually_exclusive_group()
    target.add_argument("--flops", type=float, metavar="C", help="training FLOPs of the target")
    target.add_argument(
        "--loss", type=float, metavar="L", help="or its validation loss, and the forecast says the FLOPs"
    )
    for name in ("frames", "height", "width"):
        own.add_argument(f"--{name}", type=int, metavar="N", help="of one video (default: as in the runs' data)")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Prints the estimate, and draws it if asked. Raises UserError."""
    _check(args)
    return _run_own(args) if args.runs else _run_preset(args)


def _run_preset(args: argparse.Namespace) -> int:
    from analysis.estimate.preset import load_preset
    from analysis.estimate.sora import OUTPUTS, estimate

    preset = load_preset(args.preset)
    assumptions = _overridden(args, preset.assumptions)
    results = estimate(assumptions)
    if args.plot:
        from analysis.figures.estimate import outputs_figure
        from analysis.figures.style import save_figure

        save_figure(outputs_figure(results), args.plot)
        print(f"wrote {args.plot}", file=sys.stderr)
    if args.json:
        from analysis.estimate.published import deviations

        beside = {
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
            **beside,
        }
        _print_json(preset.title, numbers, assumptions, results, preset.published)
    else:
        from analysis.estimate.text import assumption_lines, joined, output_lines, result_lines

        steps = result_lines(results, preset.published)
        print(joined([preset.title, ""], assumption_lines(assumptions), steps, output_lines(results)))
    return 0


def _run_own(args: argparse.Namespace) -> int:
    from analysis.estimate.from_runs import estimate_from_runs
    from sweeps.estimate_inputs import Video, assume

    assumptions, target = assume(args.runs, args.flops, args.loss, Video(args.frames, args.height, args.width))
    assumptions = _overridden(args, assumptions)
    results = estimate_from_runs(assumptions)
    title = f"The target of {args.runs}"
    if args.json:
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
    return 0


def _check(args: argparse.Namespace) -> None:
    """Raises UserError where an option by itself cannot be used, or not beside the others."""
    if args.runs:
        if args.flops is None and args.loss is None:
            raise UserError("--runs needs a target: give --flops C or --loss L")
        if args.plot:
            raise UserError("--plot draws what --preset compares; with --runs there is nothing to draw")
    for name in ("flops", "loss", "frames", "height", "width"):
        value = getattr(args, name)
        if value is not None and not args.runs:
            raise UserError(f"--{name} is for --runs, which is not given")
        if value is not None and not (math.isfinite(value) and value > 0):
            raise UserError(f"--{name} is {value}, but must be a positive number")


def _overridden(args: argparse.Namespace, assumptions: "Mapping[str, Assumption]") -> "dict[str, Assumption]":
    """The assumptions after the user's file and the user's options."""
    from analysis.estimate.assumptions import override
    from scaling.core.specs import load_yaml

    changed = dict(assumptions)
    if args.assumptions:
        document = load_yaml(args.assumptions)
        if not isinstance(document, dict):
            raise UserError(f"{args.assumptions}: expected a mapping such as 'hardware_utilization: 0.4'")
        changed = override(changed, document, str(args.assumptions))
    pairs = [pair.partition("=") for pair in args.set]
    for name, sign, _ in pairs:
        if not sign:
            raise UserError(f"--set {name}: expected NAME=VALUE, such as hardware_utilization=0.4")
    return override(changed, {name.strip(): value for name, _, value in pairs}, "--set")


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
        beside = [asdict(one) for one in deviations(published[name], result)] if name in published else []
        steps.append({**asdict(result), "published": beside})
    given = {
        name: {
            "value": one.point,
            "low": one.low,
            "high": one.high,
            **one.model_dump(include={"unit", "meaning", "source"}),
        }
        for name, one in assumptions.items()
    }
    document = {"title": title, **numbers, "assumptions": given, "steps": steps}
    print(json.dumps(document, indent=1, allow_nan=False))
