"""Whether the counts of a table can be in the units they should be in: parameters, tokens, FLOPs.

Not here: which column is which count (`analysis.tables.column_roles`).
"""

import re

import numpy as np
import pandas as pd

from scaling.core.errors import UserError

UNITS = {"n_params": "parameters", "num_tokens": "tokens", "train_flops": "FLOPs", "unique_tokens": "tokens",
         "unique_clips": "clips"}  # fmt: skip
LEAST_MEDIAN = {"n_params": 1e3, "num_tokens": 1e4, "train_flops": 1e6}
"""A median below this is in another unit: models this small, or trained this little, follow no scaling law."""
TOKENS_PER_PARAMETER = (1e-3, 1e5)
FLOPS_OVER_6ND = (1 / 30, 30.0)
"""Attention, recomputation and the counting of embeddings explain factors of several, not of a thousand."""
LARGEST_JUMP = 1e4
"""Neighboring values of one sorted column that are further apart than this factor are in different units."""
MULTIPLES_IN_NAMES = {"M": 1e6, "B": 1e9, "G": 1e9, "T": 1e12, "millions": 1e6, "billions": 1e9, "trillions": 1e12}
UNIT_IN_NAME = re.compile(
    rf"(?P<name>\S.*?)(?:_| ?[(\[]| (?=[a-z])|, )(?:in )?(?P<unit>{'|'.join(MULTIPLES_IN_NAMES)})[)\]]?"
)
"""A name that ends with a unit, as in `Params (M)`, params_M and `tokens (billions)`."""
LARGEST_MULTIPLE = 1e5
"""A column named in millions or billions whose median is above this may hold plain numbers after all."""


def unit_in_name(column: str) -> tuple[str, float]:
    """The name of a column without its unit, and the unit: 1e6 for `Params (M)` and params_M. 1 where it names none."""
    match = UNIT_IN_NAME.fullmatch(column)
    return (match["name"], MULTIPLES_IN_NAMES[match["unit"]]) if match else (column, 1.0)


def unit_of_column(column: str, role: str, values: pd.Series, where: str) -> float:
    """The unit in the name of a count's column; 1 where there is none. Raises UserError where the numbers are too large
    for it."""
    unit = unit_in_name(column)[1] if role in UNITS else 1.0
    if unit != 1 and (median := float(values.median())) > LARGEST_MULTIPLE:
        raise UserError(
            f"{where}: column '{column}' has the median {median:.3g}, too large for the unit in its name; "
            f"give --unit {role}=1 for plain numbers, or --unit {role}={unit:.0e}".replace("e+0", "e")
        )
    return unit


def check_units(table: pd.DataFrame, trusted: set[str], where: str) -> None:
    """Raises UserError where a count cannot be in its unit, such as N in millions, or where only some rows are.

    table: columns by role. trusted: the roles whose unit the user gave, which are not judged on their own.
    """
    for role, smallest_median in LEAST_MEDIAN.items():
        if role in table and role not in trusted:
            _check_count(table[role], role, smallest_median, where)
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


def are_training_flops(flops: pd.Series, n_params: pd.Series, num_tokens: pd.Series) -> bool:
    """Whether numbers can be the training FLOPs of runs with these sizes and tokens."""
    if flops.isna().any():
        return False
    ratio = float((flops / (6 * n_params * num_tokens)).median())
    return FLOPS_OVER_6ND[0] <= ratio <= FLOPS_OVER_6ND[1]


def _check_count(column: pd.Series, role: str, smallest_median: float, where: str) -> None:
    values = np.sort(column.dropna().to_numpy())
    values = values[values > 0]
    if not len(values):
        return
    if np.median(values) < smallest_median:
        raise UserError(
            f"{where}: {role} has the median {np.median(values):.3g} {UNITS[role]}; "
            f"give its unit, such as --unit {role}=1e6 for millions (1 to keep it as it is)"
        )
    jumps = np.flatnonzero(values[1:] > LARGEST_JUMP * values[:-1])
    if len(jumps):
        low, high = values[jumps[0]], values[jumps[0] + 1]
        raise UserError(
            f"{where}: {role} jumps from {low:.3g} to {high:.3g}; some rows are in another unit, so correct them"
        )
