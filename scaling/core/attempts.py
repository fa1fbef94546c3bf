"""The attempts at a stage, read from its folder, and whether another attempt makes sense. Imports no torch.

Both launchers, the one for this machine and the one for a cluster, decide by this: an interruption never counts as a
failure, an error is tried once more, and a mistake that only the user can correct is not tried again.
"""

import shutil
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from scaling.core.specs import Spec, parse_spec
from scaling.core.stage import Stage
from scaling.core.stage_folder import StageFolder
from scaling.core.store import read_document, read_last_jsonl, write_document

FAULT_LIMIT = 2
"""Number of attempts in a row that may fail or reach their time limit without progress."""
SILENT_LIMIT = 6
"""Number of attempts in a row that may end without a message and without progress: killed, or on a node that failed."""

LEAST_ROOM = 16 << 20
"""Free bytes on the disk below which no attempt starts."""

End = Literal["finished", "stopped", "out of time", "out of memory", "no space", "failed", "user error", "silent"]
"""How an attempt ended: `stopped` by a signal, `out of time` by the signal that comes before the time limit, `no space`
on a full disk, `user error` by a mistake that only the user can correct. `silent` means that it left no message about
its end, or has not ended yet."""


class RetryReset(Spec):
    """retry_reset.json: the failures that `scaling retry` has cancelled."""

    attempts: int = 0
    """Number of the last attempt that no longer counts."""
    at: float = 0.0
    """Time of the reset, in seconds since the epoch."""


@dataclass(frozen=True)
class Attempt:
    """One process, or group of processes, that worked on a stage."""

    number: int
    job: str
    """The scheduler's name of the job; empty where there was no scheduler."""
    host: str
    started: float
    """Time of the start, in seconds since the epoch by the host's clock."""
    seconds: float
    """Time from the start to the last event."""
    gpus: int
    start_update: int | None
    """Number of updates that were done when it started; None for work that is not counted in updates."""
    done: int | None
    """Number of updates, or other units of work, that were done at the last event."""
    total: int | None
    loss: float | None
    """Loss of the last event that has one."""
    progress: bool
    """Whether it saved a checkpoint or finished."""
    end: End
    message: str
    """Its last message, where it stopped or failed."""


def attempts(folder: StageFolder) -> list[Attempt]:
    """All attempts, oldest first, read from the ends of their logs. Raises UserError where a file is damaged."""
    return [_attempt(folder, path) for path in sorted((folder.path / "attempts").glob("[0-9]*.json"))]


def _attempt(folder: StageFolder, path: Path) -> Attempt:
    number = int(path.stem)
    facts = read_document(path) if path.stat().st_size else {}  # empty: killed right after it had claimed the number
    rows = read_last_jsonl(folder.path / f"events.{number:04d}.jsonl")
    rank_rows = [row for log in folder.path.glob(f"events.{number:04d}.rank-*.jsonl") for row in read_last_jsonl(log)]
    counts = [row for row in rows if "done" in row]
    end, message = _end(rows, rank_rows)
    return Attempt(
        number=number,
        job=str(facts.get("job", "")),
        host=str(facts.get("host", "")),
        started=float(facts.get("began", 0.0)),
        seconds=max((row.get("seconds", 0.0) for row in rows), default=0.0),
        gpus=int(facts.get("gpus", 0)),
        start_update=counts[-1].get("begun") if counts else None,
        done=counts[-1]["done"] if counts else None,
        total=counts[-1].get("total") if counts else None,
        loss=counts[-1].get("loss") if counts else None,
        progress=end == "finished" or any("saved" in row for row in rows),
        end=end,
        message=message,
    )


def _end(rows: Sequence[dict[str, Any]], rank_rows: Sequence[dict[str, Any]]) -> tuple[End, str]:
    """How an attempt ended, and its message. The first rank's events decide; where it was killed with the others and
    wrote none, the events of the other ranks do."""
    for row in [*rows, *rank_rows]:
        if row.get("out_of_memory"):  # in one rank; the others only notice that it is missing
            return "out of memory", row["error"]
    for row in [*reversed(rows), *rank_rows]:
        if "finished" in row:
            return "finished", ""
        if "stopped" in row:
            return "out of time" if row["out_of_time"] else "stopped", row["stopped"]
        if "error" in row:
            if row.get("no_space"):
                return "no space", row["error"]
            return "user error" if row["user_error"] else "failed", row["error"]
    return "silent", ""


def stage_to_try(folder: StageFolder) -> Stage:
    """The stage with its micro-batches halved once for every time that memory ran out. The batch of an update stays the
    same."""
    stage = folder.stage()
    halved = sum(attempt.end == "out of memory" for attempt in _counted(folder, attempts(folder)))
    return stage.replace(engine=stage.engine.replace(micro_batch_halvings=halved))


def given_up(folder: StageFolder, past_attempts: Sequence[Attempt]) -> str | None:
    """The reason not to start another attempt, or None where another attempt makes sense. `past` are the attempts that
    have ended."""
    counted = _counted(folder, past_attempts)
    since_progress = counted[max((n for n, attempt in enumerate(counted, 1) if attempt.progress), default=0) :]
    faults = [attempt for attempt in since_progress if attempt.end in ("failed", "out of time")]
    if counted and counted[-1].end == "user error":
        return counted[-1].message
    if len(faults) >= FAULT_LIMIT:
        return faults[-1].message or f"{len(faults)} attempts reached their time limit without progress"
    if sum(attempt.end == "no space" for attempt in since_progress) >= SILENT_LIMIT:
        return since_progress[-1].message
    if sum(attempt.end == "silent" for attempt in since_progress) >= SILENT_LIMIT:
        return f"{SILENT_LIMIT} attempts ended without a message and without progress: killed, or on nodes that failed"
    return None


def disk_space(folder: StageFolder) -> tuple[int, int]:
    """The bytes on the disk that another attempt needs at least, and the bytes that are free."""
    saved = sorted(folder.path.glob("checkpoints/step-*"))
    size = sum(file.stat().st_size for file in saved[-1].iterdir()) if saved else 0
    return LEAST_ROOM + 2 * size, shutil.disk_usage(folder.path).free


def reset_failures(folder: StageFolder) -> None:
    """Lets a stage be tried again as if it had never failed."""
    write_document(_reset_path(folder), {"attempts": folder.attempts, "at": time.time()})


def failures_reset_at(folder: StageFolder) -> float:
    """Time of the last `reset_failures`, in seconds since the epoch; 0 where there was none."""
    return _retry_reset(folder).at


def _counted(folder: StageFolder, past_attempts: Sequence[Attempt]) -> list[Attempt]:
    """The attempts since the last reset."""
    reset = _retry_reset(folder).attempts
    return [attempt for attempt in past_attempts if attempt.number > reset]


def _retry_reset(folder: StageFolder) -> RetryReset:
    path = _reset_path(folder)
    return parse_spec(RetryReset, read_document(path), str(path)) if path.exists() else RetryReset()


def _reset_path(folder: StageFolder) -> Path:
    return folder.path / "retry_reset.json"
