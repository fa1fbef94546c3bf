"""What the columns of any table mean: given by an option, or recognized by common names.

Not here: whether the numbers are in the unit they should be in (`analysis.tables.units`).
"""

import re
from collections.abc import Iterable, Mapping
from difflib import get_close_matches

import pandas as pd

from analysis.tables.number_columns import numbers_of_column
from analysis.tables.units import UNITS, unit_in_name
from scaling.core.errors import UserError

NAMES: dict[str, tuple[str, ...]] = {
    "run_id": ("run_id", "run", "run_name", "exp_name", "name"),
    "n_params": ("n_params", "params", "parameters", "model_size", "num_params", "eff_params", "n", "parameter_count",
                 "num_parameters", "n_parameters", "params_total", "total_params"),
    "num_tokens": ("num_tokens", "tokens", "training_tokens", "train_tokens", "n_tokens", "seen_examples", "d",
                   "tokens_trained", "tokens_seen", "total_tokens"),
    "train_flops": ("train_flops", "training_flop", "training_flops", "flops", "compute_budget", "compute", "c",
                    "compute_flops", "total_flops", "achieved_flops"),
    "flop_budget": ("flop_budget", "flops_budget", "budget"),
    "unique_tokens": ("unique_tokens",),
    "unique_clips": ("unique_clips",),
    "loss": ("val_loss", "loss", "final_loss", "eval_loss", "test_loss", "validation_loss", "val_bpb",
             "paloma_macro_loss"),
    "loss_se": ("val_loss_se", "loss_se", "standard_error", "stderr"),
    "vae_id": ("vae_id", "vae"),
    "seed": ("seed",),
}  # fmt: skip
"""Role -> column names that are recognized for it, best first; compared in lower case with `_` between words."""
TEXT_ROLES = ("run_id", "vae_id", "seed")
"""Roles whose values are names, not numbers."""
UNCERTAIN_NAMES = ("budget", "achieved_flops")
"""Names that may be of money, hours or FLOP/s: `analysis.tables.units` decides whether these are training FLOPs."""
GROUPS = ("config", "summary", "model", "hparams", "args")
"""What exports of experiment trackers put before a name, as in config.n_params."""
MOST_LISTED = 40
"""Columns that a message lists, at most."""


def assign_roles(table: pd.DataFrame, chosen_columns: Mapping[str, str], where: str) -> dict[str, str]:
    """Role -> column of the table. The columns that are given come first; the other roles are recognized by name.

    Raises UserError for a role that does not exist, or for a given column that the table lacks (with the nearest name).
    """
    for role, column in chosen_columns.items():
        if role not in NAMES:
            raise UserError(f"--column {role}={column}: no such role; choose from {', '.join(NAMES)}")
        require_column(table, column, where, any_type=role in TEXT_ROLES)
    candidates = {role: candidates_of(role, table, chosen_columns.values()) for role in NAMES}
    assigned = {role: chosen_columns.get(role) or next(iter(candidates[role]), None) for role in NAMES}
    return {role: column for role, column in assigned.items() if column is not None}


def candidates_of(role: str, table: pd.DataFrame, taken: Iterable[str] = ()) -> list[str]:
    """The columns whose names are recognized for a role, best first, without those that are taken."""
    columns = [str(column) for column in table.columns]
    plain_names = [plain_name(column) for column in columns]
    in_groups = [_without_group(name) for name in plain_names]
    in_units = [plain_name(unit_in_name(column)[0]) if role in UNITS else "" for column in columns]
    matching = (
        column
        for names in (plain_names, in_groups, in_units)
        for name in NAMES[role]
        for column, known_name in zip(columns, names, strict=True)
        if known_name == name
    )
    return [column for column in dict.fromkeys(matching) if column not in set(taken)]


def _without_group(name: str) -> str:
    return next((name.removeprefix(f"{group}_") for group in GROUPS if name.startswith(f"{group}_")), name)


def names_of_text(table: pd.DataFrame) -> list[str]:
    """The columns that are recognized for a role whose values are names."""
    return [column for role in TEXT_ROLES for column in candidates_of(role, table)]


def require_column(table: pd.DataFrame, name: str, where: str, *, any_type: bool = False) -> None:
    """Raises UserError where the table has no column of that name; the message lists those it has, and gives the
    nearest one with a number in every row, or with `any_type` the nearest of all."""
    if name in table:
        return
    columns = [str(column) for column in table.columns]
    complete = columns if any_type else [str(column) for column in table if _is_complete(table[column])]
    by_plain_name = {plain_name(column): column for column in complete}
    plain_names = [plain_name(alias) for alias in NAMES.get(name, (name,))]
    close_names = [match for alias in plain_names for match in get_close_matches(alias, by_plain_name, n=1, cutoff=0.6)]
    nearest = by_plain_name[close_names[0]] if close_names else None
    listed = ", ".join(columns[:MOST_LISTED]) or "none"
    if len(columns) > MOST_LISTED:
        listed += f" and {len(columns) - MOST_LISTED} more"
    if name in NAMES:
        hint = f"if it is '{nearest}', give --column {name}='{nearest}'" if nearest else ""
        hint = hint or f"name it with --column {name}=NAME"
    else:
        hint = f"is it '{nearest}'?" if nearest else ""
    raise UserError("; ".join(filter(None, (f"{where}: no column '{name}'", hint, f"it has {listed}"))))


def number_column(table: pd.DataFrame, name: str, where: str) -> pd.Series:
    """A column as floats, missing as NaN. Raises UserError where it is absent or holds text."""
    require_column(table, name, where)
    return numbers_of_column(table[name], where)


def _is_complete(column: pd.Series) -> bool:
    return pd.api.types.is_numeric_dtype(column) and bool(column.notna().all())


def plain_name(name: str) -> str:
    """A name in lower case with `_` between words."""
    return re.sub(r"[^a-z0-9]+", "_", name.lower()).strip("_")
