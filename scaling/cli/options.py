"""Arguments and options that several verbs have, declared once, and how a value such as NAME=VALUE is read. What a verb
alone has is declared in its own module."""

import math
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter, Token
from cyclopts.validators import Number

from scaling.core.errors import UserError

if TYPE_CHECKING:
    from analysis.tables.table import Table


def _whole_number(_: object, tokens: Sequence[Token]) -> int:
    """Without it the library would round 1.5 to 2."""
    try:
        return int(tokens[0].value)
    except ValueError:
        raise ValueError(f'"{tokens[0].value}" is not a whole number') from None


def whole_number(*, at_least: int) -> Parameter:
    """What a type such as Annotated[int, whole_number(at_least=2)] accepts."""
    return Parameter(converter=_whole_number, validator=Number(gte=at_least))


PositiveInt = Annotated[int, whole_number(at_least=1)]
NonNegativeInt = Annotated[int, whole_number(at_least=0)]
PositiveFloat = Annotated[float, Parameter(validator=Number(gt=0, lt=math.inf))]

Json = Annotated[bool, Parameter("--json", help="print the result as one JSON object")]
SweepName = Annotated[str, Parameter(help="a YAML file, or the name of a shipped sweep")]
SweepFolder = Annotated[Path, Parameter(help="output folder of a sweep")]
RunName = Annotated[
    str, Parameter(help="id of a stage, the beginning of one, or its slug and compute, such as dit-w48d2@4x")
]
NewFolder = Annotated[Path | None, Parameter(help="output folder (default: the name of the sweep)")]
Changes = Annotated[
    tuple[str, ...],
    Parameter("--set", help="FIELD=VALUE sets a field of the sweep, such as optim.muon_lr=0.01; may be repeated"),
]
MetricColumn = Annotated[str, Parameter(help="column that the law describes, such as fvd")]
DropTop = Annotated[NonNegativeInt, Parameter(help="leave out the runs with this many highest values of the metric")]
TablePath = Annotated[
    Path,
    Parameter(
        help="CSV, TSV, Parquet, JSON, JSONL, Excel or Markdown (- for standard input) with n_params, num_tokens or "
        "train_flops, and a loss, under these or other common names; or a folder of runs"
    ),
]


@Parameter("*")
@dataclass(frozen=True)
class ReadingOptions:
    """How the columns of a table are read."""

    column: Annotated[
        tuple[str, ...],
        Parameter(help="ROLE=NAME says which column has a role, such as n_params=Size; may be repeated"),
    ] = ()
    unit: Annotated[tuple[str, ...], Parameter(help="ROLE=X gives a unit, such as n_params=1e6 for millions")] = ()
    where: Annotated[
        tuple[str, ...], Parameter(help="COLUMN=VALUE keeps only the rows with this value; 1e6 is 1000000")
    ] = ()


def read(path: Path, options: ReadingOptions, metric: str, *, axes: Sequence[str] = (), drop_top: int = 0) -> "Table":
    """The table at a path, without the runs that the options leave out, and without those that lack the metric or one
    of the axes. Raises UserError where an option cannot be used."""
    from analysis.tables.read import TableOptions, read_table

    units = numbers_of(options.unit, "--unit")
    columns, where = pairs_of(options.column, "--column"), pairs_of(options.where, "--where")
    return read_table(path, TableOptions(columns, units, where, metric, tuple(axes), drop_top))


def command_line(verb: str, sweep_name: str, changes: tuple[str, ...], *more: str) -> str:
    """The command that a reader of the report would repeat."""
    return shlex.join(["scaling", verb, sweep_name, *(word for text in changes for word in ("--set", text)), *more])


def changes_of(texts: tuple[str, ...]) -> dict[str, Any]:
    """Fields of a sweep and their values, which are YAML. Raises UserError for anything else."""
    import yaml

    changes = {}
    for field, text in pairs_of(texts, "--set").items():
        try:
            changes[field] = yaml.safe_load(text)
        except yaml.YAMLError as error:
            raise UserError(f"--set {field}: not valid YAML: {' '.join(str(error).split())}") from None
    return changes


def numbers_of(texts: tuple[str, ...], option: str) -> dict[str, float]:
    """PositiveFloat numbers by name. Raises UserError for anything else."""
    numbers = {}
    for name, text in pairs_of(texts, option).items():
        try:
            numbers[name] = float(text)
        except ValueError:
            numbers[name] = math.nan
        if not (math.isfinite(numbers[name]) and numbers[name] > 0):
            raise UserError(f"{option} {name}={text}: expected a positive number, such as 1e6")
    return numbers


def pairs_of(texts: tuple[str, ...], option: str) -> dict[str, str]:
    """Values by name, from texts NAME=VALUE. Raises UserError for anything else."""
    pairs = {}
    for text in texts:
        name, separator, value = text.partition("=")
        if not (name.strip() and separator and value.strip()):
            raise UserError(f"{option} {text}: expected NAME=VALUE")
        pairs[name.strip()] = value.strip()
    return pairs
