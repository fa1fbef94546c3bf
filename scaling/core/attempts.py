"""What became of the attempts at a stage, read from its folder, and whether another one is worth while. No torch.

Whoever starts attempts goes by this, here and on a cluster: interruptions are forgiven as long as there is progress, a
fault is tried once more, and what only the user can mend is not tried again.
"""

import shutil
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from scaling.core.specs import Spec, parse_spec
from scaling.core.stage import Stage, StageFolder
from scaling.core.store import read_document, read_last_jsonl, write_document

FAULTS = 2
"""Attempts that may fail, or run into their time limit, one after another and without progress."""
SILENT = 6
"""Attempts that may end without a word, one after another and without progress: killed, or on a node that died."""

LEAST_ROOM = 16 << 20
"""Bytes on the disk without which nobody begins."""

End = Literal["finished", "stopped", "out of time", "out of memory", "no space", "failed", "mendable", "silent"]
"""`stopped` by a signal; `out of time`: by the one before the time limit; `no space`: on a full disk; `mendable` by the
user; `silent` where nothing was said, or is not said yet."""


class Pardon(Spec):
    """forgiven.json."""

    attempts: int = 0
    """Those up to this one do not count."""
    at: float = 0.0
    """Seconds since the epoch."""


@dataclass(frozen=True)
class Attempt:
    """One time that somebody worked on a stage."""

    number: int
    job: str
    """The scheduler's name for it; empty where there was none."""
    host: str
    began: float
    """Seconds since the epoch, by the host's clock."""
    seconds: float
    """From there to its last sign of life."""
    gpus: int
    begun: int | None
    """Updates that were done when it began; None for work that does not count them."""
    done: int | None
    total: int | None
    loss: float | None
    """The latest that it said."""
    progress: bool
    """Whether it left more than it found: a checkpoint, or all of it."""
    end: End
    words: str
    """What it said when it failed."""


def attempts(folder: StageFolder) -> list[Attempt]:
    """All of them, oldest first, from the ends of their logs. Raises UserError where a file is damaged."""
    return [_attempt(folder, path) for path in sorted((folder.path / "attempts").glob("[0-9]*.json"))]


def _attempt(folder: StageFolder, path: Path) -> Attempt:
    number = int(path.stem)
    facts = read_document(path) if path.stat().st_size else {}  # claimed, and killed before it could say by whom
    rows = read_last_jsonl(folder.path / f"events.{number:04d}.jsonl")
    others = [row for log in folder.path.glob(f"events.{number:04d}.rank-*.jsonl") for row in read_last_jsonl(log)]
    counts = [row for row in rows if "done" in row]
    end, words = _end(rows, others)
    return Attempt(
        number=number,
        job=str(facts.get("job", "")),
        host=str(facts.get("host", "")),
        began=float(facts.get("began", 0.0)),
        seconds=max((row.get("seconds", 0.0) for row in rows), default=0.0),
        gpus=int(facts.get("gpus", 0)),
        begun=counts[-1].get("begun") if counts else None,
        done=counts[-1]["done"] if counts else None,
        total=counts[-1].get("total") if counts else None,
        loss=counts[-1].get("loss") if counts else None,
        progress=end == "finished" or any("saved" in row for row in rows),
        end=end,
        words=words,
    )


def _end(rows: Sequence[dict[str, Any]], others: Sequence[dict[str, Any]]) -> tuple[End, str]:
    """The first rank's word counts, and where it has none, because it was killed with the others, theirs."""
    for row in [*rows, *others]:
        if row.get("out_of_memory"):  # of one rank, which the others only miss
            return "out of memory", row["error"]
    for row in [*reversed(rows), *others]:
        if "finished" in row:
            return "finished", ""
        if "stopped" in row:
            return "out of time" if row["out_of_time"] else "stopped", row["stopped"]
        if "error" in row:
            if row.get("no_space"):
                return "no space", row["error"]
            return "mendable" if row["mendable"] else "failed", row["error"]
    return "silent", ""


def stage_to_try(folder: StageFolder) -> Stage:
    """The stage with its micro-batches halved as often as memory ran out: the batch of an update stays the same."""
    stage = folder.stage()
    halved = sum(attempt.end == "out of memory" for attempt in _counted(folder, attempts(folder)))
    return stage.replace(engine=stage.engine.replace(micro_batch_halvings=halved))


def given_up(folder: StageFolder, past: Sequence[Attempt]) -> str | None:
    """Why nobody should try again by himself; None where somebody should. `past` are attempts that have ended."""
    counted = _counted(folder, past)
    since = counted[max((n for n, attempt in enumerate(counted, 1) if attempt.progress), default=0) :]
    faults = [attempt for attempt in since if attempt.end in ("failed", "out of time")]
    if counted and counted[-1].end == "mendable":
        return counted[-1].words
    if len(faults) >= FAULTS:
        return faults[-1].words or f"{len(faults)} attempts reached their time limit without progress"
    if sum(attempt.end == "no space" for attempt in since) >= SILENT:
        return since[-1].words
    if sum(attempt.end == "silent" for attempt in since) >= SILENT:
        return f"{SILENT} attempts ended without a word and without progress: killed, or on nodes that died"
    return None


def room_to_try(folder: StageFolder) -> tuple[int, int]:
    """Bytes that another attempt needs on the disk, at least, and those that are free."""
    saved = sorted(folder.path.glob("checkpoints/step-*"))
    size = sum(file.stat().st_size for file in saved[-1].iterdir()) if saved else 0
    return LEAST_ROOM + 2 * size, shutil.disk_usage(folder.path).free


def forgive(folder: StageFolder) -> None:
    """Lets a stage be tried again as if it had never failed."""
    write_document(folder.path / "forgiven.json", {"attempts": folder.attempts, "at": time.time()})


def forgiven_at(folder: StageFolder) -> float:
    """When, in seconds since the epoch; 0 for never."""
    return _pardon(folder).at


def _counted(folder: StageFolder, past: Sequence[Attempt]) -> list[Attempt]:
    """Those that were not forgiven."""
    forgiven = _pardon(folder).attempts
    return [attempt for attempt in past if attempt.number > forgiven]


def _pardon(folder: StageFolder) -> Pardon:
    path = folder.path / "forgiven.json"
    return parse_spec(Pardon, read_document(path), str(path)) if path.exists() else Pardon()
