"""`scaling fit`: a law with intervals and a verdict, from our runs or from any table."""

import json
import math
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from cyclopts import Parameter
from cyclopts.validators import Number

from scaling.cli.options import DropTop, Json, MetricColumn, NonNegativeInt, ReadingOptions, TablePath, numbers_of, read
from scaling.cli.printing import print_note, reading_lines
from scaling.core.errors import UserError

if TYPE_CHECKING:
    from analysis.laws.assessment import Assessment
    from analysis.laws.optima import Allometry
    from analysis.tables.table import Table

LawName = Literal["chinchilla", "chinchilla-no-floor", "shared", "kaplan", "repeated", "power", "power-floor", "metric"]
MethodName = Literal["huber", "least-squares", "isoflop", "envelope"]
ONE_AXIS = ("power", "power-floor", "metric")
LAW_OPTIONS = ("law", "against", "delta", "inverse_variance", "compute_weight", "fix", "bootstrap", "seed")
"""Options that the methods isoflop and envelope have no use for, besides --plot."""
DRAWS = 1000
"""Resamples of the bootstrap, where no other number is asked for."""


@Parameter("*")
@dataclass(frozen=True)
class FitOptions:
    """Which law is fitted to which runs, and how."""

    law: Annotated[
        LawName | None, Parameter(help="form of the law (default: chinchilla); the last three have one axis")
    ] = None
    against: Annotated[
        str | None, Parameter(help="column that is the axis of a law with one axis (default: train_flops)")
    ] = None
    metric: MetricColumn = "loss"
    method: Annotated[
        MethodName,
        Parameter(help="huber: Huber loss of log residuals; least-squares: squared residuals of the metric; isoflop: a "
                  "parabola for each budget (Approach 2); envelope: the best run so far (Approach 1); the last two "
                  "give the exponents a and b alone"),
    ] = "huber"  # fmt: skip
    delta: Annotated[
        float | None,
        Parameter(validator=Number(gt=0), help="delta of the Huber loss; inf for least squares (default: 0.001, and "
                  "inf for fewer than 30 runs)"),
    ] = None  # fmt: skip
    inverse_variance: Annotated[bool, Parameter(help="weight runs by 1/variance, which repeated seeds give")] = False
    compute_weight: Annotated[
        float | None,
        Parameter(validator=Number(gt=-math.inf, lt=math.inf), help="weight runs by this power of compute; 0.5 to "
                  "extrapolate (default: 0)"),
    ] = None  # fmt: skip
    fix: Annotated[tuple[str, ...], Parameter(help="NAME=X fixes a floor or an exponent that is known")] = ()
    drop_top: DropTop = 0
    bootstrap: Annotated[
        NonNegativeInt | None, Parameter(help="resamples behind the intervals; 0 for no intervals (default: 1000)")
    ] = None
    seed: Annotated[NonNegativeInt | None, Parameter(help="seed of the bootstrap (default: 0)")] = None


def run(
    table: TablePath,
    /,
    *,
    reading: ReadingOptions = ReadingOptions(),
    options: FitOptions = FitOptions(),
    plot: Annotated[
        Path | None, Parameter(help="a .png, .svg or .pdf for fit and residuals; a folder for all figures")
    ] = None,
    as_json: Json = False,
) -> int:
    """Fits a law, such as L(N, D) = E + A/N^alpha + B/D^beta, and says how far it can be trusted. docs/laws.md explains
    the laws, the methods and what is printed.

    examples:
      scaling fit runs/
      scaling fit others.csv --drop-top 5 --json
      scaling fit others.csv --column n_params="Model Size" --unit n_params=1e6
      scaling fit runs/ --law power-floor --against train_flops --metric fvd
      scaling fit runs/ --law power-floor --fix E=0.25 --compute-weight 0.5
      scaling fit runs/ --method isoflop
      scaling fit runs/ --plot law.svg
      scaling fit runs/ --plot figures/
    """
    _refuse_unused(options, plot)
    rows = read(table, reading, options.metric, axes=_axes(options), drop_top=options.drop_top)
    against = options.against and rows.name_of(options.against)
    options = replace(options, metric=rows.name_of(options.metric), against=against)
    if options.method in ("isoflop", "envelope"):
        from analysis.laws.optima import allometry

        exponents = allometry(rows, options.method, options.metric)
        document = exponents.to_document() | {
            "notes": list(rows.notes),
            "excluded": [asdict(run) for run in rows.excluded],
        }
        lines = [_exponents_text(exponents), *reading_lines(rows)]
        print(json.dumps(document, indent=1, allow_nan=False) if as_json else "\n".join(lines))
        return 0
    fitted = _assess(rows, options)
    if plot:
        from analysis.figures.laws import draw_assessment

        for path in draw_assessment(fitted, plot):
            print_note(f"wrote {path}")
    print(json.dumps(fitted.to_document(), indent=1, allow_nan=False) if as_json else _assessment_text(fitted))
    return 0


def _refuse_unused(options: FitOptions, plot: Path | None) -> None:
    """Raises UserError for an option that would change nothing beside the others."""
    if options.method in ("isoflop", "envelope"):
        law_options = {name: getattr(options, name) for name in LAW_OPTIONS} | {"plot": plot}
        unused = [name for name, value in law_options.items() if value not in (None, False, ())]
        if unused:
            raise UserError(
                f"--{unused[0].replace('_', '-')} is an option of a law, and --method {options.method} fits none; "
                "leave one of the two out"
            )
    if options.method == "least-squares" and options.delta is not None:
        raise UserError("--delta is an option of --method huber; leave it out, or leave out --method least-squares")
    if options.against is not None and options.law not in ONE_AXIS:
        raise UserError(f"--against is the axis of a law with one axis; add --law with one of {', '.join(ONE_AXIS)}")
    if options.seed is not None and options.bootstrap == 0:
        raise UserError("--seed is the seed of the bootstrap, and --bootstrap 0 makes none; leave one of the two out")


def _axes(options: FitOptions) -> tuple[str, ...]:
    """The columns without which a run is of no use."""
    from analysis.laws.forms import C_AXIS, D_AXIS, N_AXIS, law

    if options.method in ("isoflop", "envelope"):
        return N_AXIS, D_AXIS, C_AXIS
    return law(options.law or "chinchilla", options.against or C_AXIS).axes


def _assess(rows: "Table", options: FitOptions) -> "Assessment":
    from analysis.laws.assessment import assess
    from analysis.laws.forms import law
    from analysis.laws.newton import Objective

    raw = options.method == "least-squares"
    return assess(
        rows,
        law(options.law or "chinchilla", options.against or "train_flops").fix(**numbers_of(options.fix, "--fix")),
        Objective(math.inf, raw=True) if raw else Objective(options.delta) if options.delta else None,
        metric=options.metric,
        draws=DRAWS if options.bootstrap is None else options.bootstrap,
        seed=options.seed or 0,
        inverse_variance=options.inverse_variance,
        compute_weight=options.compute_weight or 0.0,
    )


def _assessment_text(fitted: "Assessment") -> str:
    from analysis.laws.bootstrap import LEVEL

    fit = fitted.fit
    lines = [*fitted.table.column_sources, f"{fit.form.formula}: {len(fit.points)} points, {fit.status}"]
    derived = {"a": fit.a, "b": fit.b} if fit.a is not None else {}
    for name, value in {**fit.params, **derived}.items():
        low, high = fitted.intervals.get(name, (None, None))
        lines.append(
            f"  {name:6} {value:<10.5g}" + (f" {LEVEL:.0%} [{low:.4g}, {high:.4g}]" if low is not None else "")
        )
    if fit.measure.raw:
        meaning = "half the sum of squared residuals"
    elif math.isinf(fit.measure.delta):
        meaning = "half the sum of squared log residuals"
    else:
        meaning = f"sum of Huber losses of log residuals, delta {fit.measure.delta:g}"
    lines.append(f"  objective {fit.objective:.6g} ({meaning})")
    if fitted.noise:
        noise = fitted.noise
        lines.append(f"  noise of a run {noise.run:.2%}, of its measurement {noise.evaluation:.2%}")
    for holdout in fitted.holdouts:
        lines.append(
            f"  from runs up to {holdout.up_to_flops:.3g} FLOPs: {holdout.n_predicted} runs up to {holdout.reach:.3g}x "
            f"predicted {holdout.bias:+.2%}, rms {holdout.rms:.2%}, {holdout.covered:.0%} inside their 90% intervals"
        )
    lines += reading_lines(fitted.table)
    return "\n".join([*lines, *(f"  ! {warning}" for warning in fitted.warnings)])


def _exponents_text(exponents: "Allometry") -> str:
    lines = [
        f"{exponents.method}: N ~ C^{exponents.a:.4f}, D ~ C^{exponents.b:.4f}, from {exponents.used} optima",
    ]
    for optimum in exponents.optima:
        lines.append(
            f"  C {optimum.flops:.3g}: N {optimum.n_params:.3g}, D {optimum.num_tokens:.3g}, {optimum.metric:.4g}"
            + (f"  refused: {optimum.refusal}" if optimum.refusal else "")
        )
    return "\n".join(lines)
