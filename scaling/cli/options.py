"""The options by which `scaling fit` and `scaling forecast` read anybody's table."""

import argparse
import math
from pathlib import Path
from typing import TYPE_CHECKING

from scaling.core.errors import UserError

if TYPE_CHECKING:
    from analysis.tables.table import Table


def add_table(parser: argparse.ArgumentParser) -> None:
    """Adds the table, and how to read it."""
    parser.add_argument(
        "table",
        type=Path,
        metavar="TABLE|RUNS",
        help="CSV, Parquet, JSON or JSONL with n_params, num_tokens or train_flops, and a loss, under these or other "
        "common names; or a folder of runs",
    )
    parser.add_argument("--column", action="append", default=[], metavar="ROLE=NAME", help="what a column means")
    parser.add_argument(
        "--unit", action="append", default=[], metavar="ROLE=X", help="such as n_params=1e6 for millions"
    )
    parser.add_argument("--where", action="append", default=[], metavar="COLUMN=VALUE", help="keep these rows alone")


def read(args: argparse.Namespace) -> "Table":
    """The table that the options describe. Raises UserError where one of them cannot be used."""
    from analysis.tables.read import TableOptions, read_table

    units = numbers_of(args.unit, "--unit")
    columns, where = _pairs(args.column, "--column"), _pairs(args.where, "--where")
    return read_table(args.table, TableOptions(columns, units, where, metric=args.metric, drop_top=args.drop_top))


def numbers_of(texts: list[str], option: str) -> dict[str, float]:
    """Positive numbers by name. Raises UserError for anything else."""
    found = {}
    for name, text in _pairs(texts, option).items():
        try:
            found[name] = float(text)
        except ValueError:
            found[name] = math.nan
        if not (math.isfinite(found[name]) and found[name] > 0):
            raise UserError(f"{option} {name}={text}: expected a positive number, such as 1e6")
    return found


def _pairs(texts: list[str], option: str) -> dict[str, str]:
    found = {}
    for text in texts:
        name, separator, value = text.partition("=")
        if not (name and separator and value):
            raise UserError(f"{option} {text}: expected NAME=VALUE")
        found[name.strip()] = value.strip()
    return found
