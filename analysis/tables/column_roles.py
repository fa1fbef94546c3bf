"""What the columns of any table mean: given by an option, or recognized by common names.

Not here: whether the numbers are in the unit they should be in (`analysis.tables.units`).
"""

import re
from collections.abc import Mapping
from difflib import get_close_matches

import numpy as np
import pandas as pd

from scaling.core.errors import UserError

NAMES: dict[str, tuple[str, ...]] = {
    "run_id": ("run_id", "run", "run_name", "exp_name", "name"),
    "n_params": ("n_params", "params", "parameters", "model_size", "num_params", "eff_params", "n"),
    "num_tokens": ("num_tokens", "tokens", "training_tokens", "train_tokens", "n_tokens", "seen_examples", "d"),
    "train_flops": ("train_flops", "training_flop", "training_flops", "flops", "compute_budget", "compute", "c"),
    "flop_budget": ("flop_budget",),
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


def assign_roles(table: pd.DataFrame, chosen_columns: Mapping[str, str], where: str) -> dict[str, str]:
    """Role -> column of the table. The columns that are given come first; the other roles are recognized by name.

    Raises UserError for a role that does not exist, or for a given column that the table lacks (with the nearest name).
    """
    for role, column in chosen_columns.items():
        if role not in NAMES:
            raise UserError(f"--column {role}={column}: no such role; choose from {', '.join(NAMES)}")
        require_column(table, column, where)
    by_plain_name = {_plain(str(column)): str(column) for column in reversed(table.columns)}
    unassigned = {plain: column for plain, column in by_plain_name.items() if column not in chosen_columns.values()}
    assigned = {
        role: chosen_columns.get(role) or next((unassigned[name] for name in names if name in unassigned), None)
        for role, names in NAMES.items()
    }
    return {role: column for role, column in assigned.items() if column is not None}


def require_column(table: pd.DataFrame, name: str, where: str) -> None:
    """Raises UserError where the table has no column of that name; the message gives the nearest name it has."""
    if name in table:
        return
    by_plain_name = {_plain(str(column)): str(column) for column in table.columns}
    plain_names = [_plain(alias) for alias in NAMES.get(name, (name,))]
    close_names = [match for alias in plain_names for match in get_close_matches(alias, by_plain_name, n=1, cutoff=0.6)]
    nearest = by_plain_name[close_names[0]] if close_names else None
    columns = ", ".join(map(str, table.columns)) or "none"
    if name in NAMES:
        hint = f"if it is '{nearest}', give --column {name}='{nearest}'" if nearest else ""
        hint = hint or f"name it with --column {name}=NAME; it has {columns}"
    else:
        hint = f"is it '{nearest}'?" if nearest else f"it has {columns}"
    raise UserError(f"{where}: no column '{name}'; {hint}")


def number_column(table: pd.DataFrame, name: str, where: str) -> pd.Series:
    """A column as floats, missing as NaN. Raises UserError where it is absent or holds text."""
    require_column(table, name, where)
    values = pd.to_numeric(table[name], errors="coerce").astype(float)
    is_text = (values.isna() & table[name].notna()).to_numpy()
    if is_text.any():
        row = int(np.flatnonzero(is_text)[0])
        raise UserError(f"{where}: column '{name}' holds {table[name].iloc[row]!r} in row {row + 1}, expected a number")
    return values


def _plain(name: str) -> str:
    return re.sub(r"[^a-z0-9]+", "_", name.lower()).strip("_")
