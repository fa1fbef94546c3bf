"""The speed of a running attempt and the time that it still needs, computed from its event log."""

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

HEAD_BYTES = 4096
"""Number of bytes that are read at the beginning of a log; at its end, twice as many are read."""
ROWS = 20
"""Number of progress events that the speed is averaged over."""


@dataclass(frozen=True)
class Speed:
    """The speed of an attempt. A value that its log does not tell is None."""

    tokens_per_second: float | None = None
    mfu: float | None = None
    """Share of the GPUs' peak FLOP/s."""
    eta_seconds: float | None = None
    """Seconds that the rest will take at this speed."""


def read_speed(log: Path) -> Speed:
    """The speed over the last progress events of a log."""
    rows = _first_and_last_rows(log)
    counts = [row for row in rows if "done" in row and "seconds" in row]
    if not counts:
        return Speed()
    newest, oldest = counts[-1], counts[max(0, len(counts) - ROWS)]
    done, seconds = newest["done"] - oldest["done"], newest["seconds"] - oldest["seconds"]
    if done <= 0 or seconds <= 0:
        return Speed()
    rate = done / seconds
    tokens_per_second, mfu = _of_training(rows, rate)
    eta_seconds = (newest["total"] - newest["done"]) / rate if newest.get("total") else None
    return Speed(tokens_per_second, mfu, eta_seconds)


def _of_training(rows: Sequence[Mapping[str, Any]], updates_per_second: float) -> tuple[float | None, float | None]:
    """Tokens per second and share of the peak, of an attempt that has logged what an update is."""
    update = next((row for row in rows if "update_tokens" in row), None)
    if update is None:
        return None, None
    mfu = update["update_flops"] * updates_per_second / update["peak_flops"] if update["peak_flops"] else None
    return update["update_tokens"] * updates_per_second, mfu


def _first_and_last_rows(log: Path) -> list[dict[str, Any]]:
    if not log.exists():
        return []
    with open(log, "rb") as file:
        head = file.read(HEAD_BYTES)
        file.seek(max(len(head), file.seek(0, os.SEEK_END) - 2 * HEAD_BYTES))
        tail = file.read()
    rows = []
    for line in [*head.split(b"\n"), *tail.split(b"\n")]:
        try:
            rows.append(json.loads(line))
        except (json.JSONDecodeError, UnicodeDecodeError):
            continue  # cut off where the head ends or the tail starts
    return [row for row in rows if isinstance(row, dict)]
