"""What the columns of anybody's table mean: by option, or guessed from common names; and whether their units can be."""

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
"""Role -> names that are taken for it, best first; compared in lower case with `_` between words."""
UNITS = {"n_params": "parameters", "num_tokens": "tokens", "train_flops": "FLOPs", "unique_tokens": "tokens",
         "unique_clips": "clips"}  # fmt: skip
LEAST = {"n_params": 1e3, "num_tokens": 1e4, "train_flops": 1e6}
"""A median below this is of another unit: models this small, or trained this little, obey no scaling law."""
TOKENS_PER_PARAMETER = (1e-3, 1e5)
FLOPS_OVER_6ND = (1 / 30, 30.0)
"""Attention, recomputation and the counting of embeddings explain factors of several, not of a thousand."""
GAP = 1e4
"""Neighbouring values of one column further apart than this are of different units."""


def assign(table: pd.DataFrame, given: Mapping[str, str], where: str) -> dict[str, str]:
    """Role -> column of the table. `given` comes first, the rest is guessed.

    Raises UserError for a role that does not exist, or a given column that is not there (with the nearest name).
    """
    for role, column in given.items():
        if role not in NAMES:
            raise UserError(f"--column {role}={column}: no such role; choose from {', '.join(NAMES)}")
        require(table, column, where)
    columns = {_plain(str(column)): str(column) for column in reversed(table.columns)}
    free = {plain: column for plain, column in columns.items() if column not in given.values()}
    found = {
        role: given.get(role) or next((free[name] for name in names if name in free), None)
        for role, names in NAMES.items()
    }
    return {role: column for role, column in found.items() if column is not None}


def require(table: pd.DataFrame, name: str, where: str) -> None:
    """Raises UserError where the table has no column of that name; the nearest name that it has is given."""
    if name in table:
        return
    columns = {_plain(str(column)): str(column) for column in table.columns}
    wanted = [_plain(alias) for alias in NAMES.get(name, (name,))]
    near = [match for alias in wanted for match in get_close_matches(alias, columns, n=1, cutoff=0.6)]
    listed = ", ".join(map(str, table.columns)) or "none"
    if name in NAMES:
        hint = f"if it is '{columns[near[0]]}', give --column {name}='{columns[near[0]]}'" if near else ""
        raise UserError(f"{where}: no column '{name}'; {hint or f'name it with --column {name}=NAME; it has {listed}'}")
    raise UserError(f"{where}: no column '{name}'; " + (f"is it '{columns[near[0]]}'?" if near else f"it has {listed}"))


def numbers(table: pd.DataFrame, name: str, where: str) -> pd.Series:
    """A column as floats, missing as NaN. Raises UserError where it is absent or holds text."""
    require(table, name, where)
    values = pd.to_numeric(table[name], errors="coerce").astype(float)
    text = table[name][values.isna() & table[name].notna()]
    if len(text):
        row = int(np.flatnonzero((values.isna() & table[name].notna()).to_numpy())[0]) + 1
        raise UserError(f"{where}: column '{name}' holds {text.iloc[0]!r} in row {row}, expected a number")
    return values


def check_units(table: pd.DataFrame, trusted: set[str], where: str) -> None:
    """Raises UserError where a count cannot be in the unit it should be in: N in millions, or some rows of it.

    table: columns by role. trusted: roles whose unit the user has given, which are not judged alone.
    """
    for role, least in LEAST.items():
        if role not in table or role in trusted:
            continue
        values = np.sort(table[role].dropna().to_numpy())
        values = values[values > 0]
        if not len(values):
            continue
        way_out = f"give its unit, such as --unit {role}=1e6 for millions (1 to keep it as it is)"
        if np.median(values) < least:
            raise UserError(f"{where}: {role} has the median {np.median(values):.3g} {UNITS[role]}; {way_out}")
        jump = np.flatnonzero(values[1:] > GAP * values[:-1])
        if len(jump):
            low, high = values[jump[0]], values[jump[0] + 1]
            raise UserError(f"{where}: {role} jumps from {low:.3g} to {high:.3g}; rows of different units? mend them")
    if {"n_params", "num_tokens"} <= set(table) and not {"n_params", "num_tokens"} <= trusted:
        ratio = float((table["num_tokens"] / table["n_params"]).median())
        if not TOKENS_PER_PARAMETER[0] <= ratio <= TOKENS_PER_PARAMETER[1]:
            raise UserError(
                f"{where}: {ratio:.2g} tokens per parameter; n_params or num_tokens is in another unit, "
                "give it, such as --unit n_params=1e6 for millions"
            )
    if {"n_params", "num_tokens", "train_flops"} <= set(table):
        ratio = float((table["train_flops"] / (6 * table["n_params"] * table["num_tokens"])).median())
        if not FLOPS_OVER_6ND[0] <= ratio <= FLOPS_OVER_6ND[1]:
            raise UserError(
                f"{where}: train_flops is {ratio:.2g} times 6 N D; one of the three is in another unit, "
                "give it, such as --unit n_params=1e6 for millions"
            )


def _plain(name: str) -> str:
    return re.sub(r"[^a-z0-9]+", "_", name.lower()).strip("_")
