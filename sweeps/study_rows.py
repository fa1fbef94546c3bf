"""The rows of a study: runs that differ by their seeds alone, averaged, each row against the first of its kind."""

from collections.abc import Sequence

from scaling.core.records import RunRecord
from sweeps.result import StudyRow

SEED = "seed"
"""The axis that rows are averaged over."""

RowKey = tuple[object, ...]


def study_rows(records: Sequence[RunRecord]) -> list[StudyRow]:
    """One row for each combination of the axes but the seed, in the order of the records. Losses are compared inside
    one size, budget and VAE only."""
    groups: dict[RowKey, list[RunRecord]] = {}
    for record in records:
        axes = tuple((axis, value) for axis, value in record.axes.items() if axis != SEED)
        groups.setdefault((*_comparable(record), axes), []).append(record)
    rows: list[StudyRow] = []
    first_means: dict[RowKey, float | None] = {}
    for group in groups.values():
        losses = tuple(record.value("val_loss") for record in group)
        reached = [loss for loss in losses if loss is not None]
        mean = sum(reached) / len(reached) if len(reached) == len(losses) else None
        reference = first_means.setdefault(_comparable(group[0]), mean)
        rows.append(
            StudyRow(
                axes={axis: value for axis, value in group[0].axes.items() if axis != SEED},
                size=group[0].size,
                multiple=group[0].multiple,
                n_params=group[0].n_params,
                train_flops=group[0].train_flops,
                vae_id=group[0].vae_id,
                losses=losses,
                run_ids=tuple(record.run_id for record in group),
                val_loss=mean,
                against_first=None if mean is None or reference is None else mean / reference - 1,
            )
        )
    return rows


def _comparable(record: RunRecord) -> RowKey:
    return (record.vae_id, record.size, record.multiple, record.flop_budget)
