"""The state of every stage of an output folder, derived from its files and from what the scheduler last said.

Files come first: a stage is done when its folder says so, whatever the scheduler thinks. Without accounting the states
are the same; it only knows better why a job is gone.
"""

import fcntl
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from scaling.core.attempts import Attempt, attempts, given_up
from scaling.core.errors import UserError
from scaling.core.stage import StageFolder
from scaling.core.store import read_document
from slurm.queue_cache import View
from slurm.submissions import Submission
from slurm.worker import is_cancelled

STALLED_SECONDS = 900.0
"""Without a sign of life; the first rank may draw samples or measure for minutes."""
HEAD_BYTES = 4096

State = Literal[
    "planned",
    "queued",
    "running",
    "stalled",
    "preempted",
    "retrying",
    "done",
    "diverged",
    "failed",
    "lost",
    "cancelled",
]
STATES: tuple[State, ...] = State.__args__  # type: ignore[attr-defined]
WORKING = ("running", "stalled")


@dataclass(frozen=True)
class Status:
    """One stage."""

    id: str
    kind: str
    slug: str
    compute: str
    state: State
    note: str
    """Why it is in this state, in a few words; of a failure, its error."""
    step: int | None
    total: int | None
    loss: float | None
    tokens_per_second: float | None
    mfu: float | None
    eta_seconds: float | None
    attempts: int
    gpu_hours: float
    job: str
    """The scheduler's name for its latest job."""
    parents: Mapping[str, str]

    def to_document(self) -> dict[str, Any]:
        return asdict(self)


def statuses(out: Path, submissions: Sequence[Submission], view: View, now: float) -> list[Status]:
    """Of all stages with a spec, in the order in which they depend on each other. `now` is the file system's time, in
    seconds since the epoch, which clocks of other machines may not agree with.

    Raises UserError where a file is damaged.
    """
    runs = out / "runs"
    latest = {stage: one for one in submissions for stage in one.stages}
    steered = is_steered(submissions, view)
    found = [
        _status(StageFolder(path.parent), read_document(path), latest, view, now, steered)
        for path in runs.glob("*/spec.json")
    ]
    return _ordered(found)


def is_steered(submissions: Sequence[Submission], view: View) -> bool:
    """Whether a job that goes on with the sweep is in the queue, or was just submitted."""
    steering = [one for one in submissions if one.is_steering and one.job]
    return any(one.at > view.seen or f"{one.job}_0" in view.queue for one in steering)


def unfinished(out: Path, submissions: Sequence[Submission]) -> bool:
    """Whether the scheduler has anything to say: whether something that was submitted is not complete."""
    stages = {stage for one in submissions if not one.is_steering for stage in one.stages}
    return any(not StageFolder(out / "runs" / stage).complete for stage in stages)


def gone(out: Path, submissions: Sequence[Submission], view: View) -> list[str]:
    """Arrays with a stage that has left the queue and is not complete: what accounting may be asked of."""
    return sorted(
        {
            str(one.job)
            for one in submissions
            if one.job is not None and one.at < view.seen
            for stage in one.stages
            if not one.is_steering
            and one.element(stage) not in view.queue
            and not StageFolder(out / "runs" / stage).complete
        }
    )


def _status(
    folder: StageFolder,
    spec: Any,
    latest: Mapping[str, Submission],
    view: View,
    now: float,
    steered: bool,
) -> Status:
    if not isinstance(spec, dict) or not {"kind", "slug"} <= spec.keys():
        raise UserError(f"{folder.spec_path}: 'kind' or 'slug' is missing; remove the folder and submit again")
    stage = folder.path.name
    one = latest.get(stage)
    element = one.element(stage) if one is not None and one.job else ""
    past = attempts(folder)
    if folder.complete:
        diverged = read_document(folder.record_path).get("diverged_at")
        state: State = "done" if diverged is None else "diverged"
        note = "" if diverged is None else f"its loss was not finite after {diverged} updates"
    else:
        state, note = _unfinished(folder, past, one, element, view, now, steered)
    rows = _log(folder, past[-1].number) if past and state in WORKING else []
    return Status(
        id=stage,
        kind=spec["kind"],
        slug=spec["slug"],
        compute=spec.get("compute", ""),
        state=state,
        note=note,
        step=past[-1].done if past else None,
        total=past[-1].total if past else None,
        loss=past[-1].loss if past else None,
        **_speed(rows),
        attempts=len(past),
        gpu_hours=sum(attempt.gpus * attempt.seconds for attempt in past) / 3600,
        job=element,
        parents=spec.get("parents", {}),
    )


def _unfinished(
    folder: StageFolder,
    past: Sequence[Attempt],
    one: Submission | None,
    element: str,
    view: View,
    now: float,
    steered: bool,
) -> tuple[State, str]:
    last = past[-1] if past else None
    if is_cancelled(folder):
        return "cancelled", ""
    if element in view.queue:
        state, reason = view.queue[element]
        if last is not None and _touched(folder, last.number) > view.seen:  # the files know better by now
            return _working(folder, last, element, now) if last.end == "silent" else _waiting(last, "")
        if state in ("PENDING", "REQUEUED", "REQUEUE_HOLD", "SPECIAL_EXIT"):
            return _waiting(last, reason)
        return _working(folder, last, element, now)
    if one is None:
        return _local(folder, past, now)
    if one.job is None or one.at >= view.seen:  # submitted after the queue was looked at
        return ("queued", "submitted just now") if last is None else ("retrying", f"after: {last.end}")
    if given := given_up(folder, past):
        return "failed", given
    how = view.ended.get(element, "")
    if how in ("RUNNING", "PENDING", "COMPLETED"):
        how = ""
    missing = [p for p in folder.stage().parents.values() if not StageFolder(folder.path.parent / p).complete]
    if missing:
        return "planned", f"waits for {missing[0]}"
    note = how or "it left the queue" + ("" if last is None else f" ({last.end})")
    return ("retrying", f"{note}; the steering job submits it again") if steered else ("lost", note)


def _waiting(last: Attempt | None, reason: str) -> tuple[State, str]:
    if last is None:
        return "queued", reason
    if last.end in ("stopped", "silent", "out of time"):
        return "preempted", "; ".join(filter(None, (last.words or "killed", reason)))
    return "retrying", f"{last.end}: {_first_line(last.words)}"


def _working(folder: StageFolder, last: Attempt | None, element: str, now: float) -> tuple[State, str]:
    if last is None or last.end != "silent" or not last.job.startswith(f"{element}."):
        return "running", "starting"
    silent = now - _touched(folder, last.number)
    if silent > STALLED_SECONDS:
        return "stalled", f"no sign of life for {silent / 60:.0f} min"
    return "running", ""


def _local(folder: StageFolder, past: Sequence[Attempt], now: float) -> tuple[State, str]:
    """Of a stage that was never submitted: perhaps somebody works on it on this machine."""
    if not past:
        return "planned", ""
    if past[-1].end == "silent" and _is_locked(folder):
        return _working(folder, past[-1], past[-1].job.partition(".")[0], now)
    if reason := given_up(folder, past):
        return "failed", reason
    return "lost", f"its attempt ended: {past[-1].end}"


def _is_locked(folder: StageFolder) -> bool:
    try:
        with open(folder.path / "lock") as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return False
    return False


def _touched(folder: StageFolder, number: int) -> float:
    """When an attempt last said something."""
    for path in (folder.path / f"events.{number:04d}.jsonl", folder.path / "attempts" / f"{number:04d}.json"):
        if path.exists():
            return path.stat().st_mtime
    return 0.0


def _log(folder: StageFolder, number: int) -> list[dict[str, Any]]:
    """The first and the last rows of an attempt's log."""
    path = folder.path / f"events.{number:04d}.jsonl"
    if not path.exists():
        return []
    with open(path, "rb") as file:
        head = file.read(HEAD_BYTES)
        rest = max(len(head), file.seek(0, os.SEEK_END) - 2 * HEAD_BYTES)
        file.seek(rest)
        tail = file.read()
    rows = []
    for line in [*head.split(b"\n"), *tail.split(b"\n")]:
        try:
            rows.append(json.loads(line))
        except (json.JSONDecodeError, UnicodeDecodeError):
            continue  # cut
    return [row for row in rows if isinstance(row, dict)]


def _speed(rows: Sequence[Mapping[str, Any]]) -> dict[str, float | None]:
    """Tokens/s, utilisation and the time left, from the counts of the last rows."""
    facts: dict[str, float | None] = dict.fromkeys(("tokens_per_second", "mfu", "eta_seconds"))
    counts = [row for row in rows if "done" in row and "seconds" in row]
    if not counts:
        return facts
    newest, before = counts[-1], counts[max(0, len(counts) - 20)]
    done, seconds = newest["done"] - before["done"], newest["seconds"] - before["seconds"]
    if done <= 0 or seconds <= 0:
        return facts
    rate = done / seconds
    about = next((row for row in rows if "update_tokens" in row), None)
    if about is not None:
        facts["tokens_per_second"] = about["update_tokens"] * rate
        facts["mfu"] = about["update_flops"] * rate / about["peak_flops"] if about["peak_flops"] else None
    if newest.get("total"):
        facts["eta_seconds"] = (newest["total"] - newest["done"]) / rate
    return facts


def _first_line(text: str) -> str:
    return text.strip().splitlines()[0] if text.strip() else ""


def _ordered(found: Sequence[Status]) -> list[Status]:
    """Parents first, and what is alike together."""
    by_id = {status.id: status for status in found}
    depth: dict[str, int] = {}

    def level(stage: str) -> int:
        if stage not in depth:
            parents = by_id[stage].parents.values()
            depth[stage] = 1 + max((level(parent) for parent in parents if parent in by_id), default=0)
        return depth[stage]

    return sorted(found, key=lambda one: (level(one.id), one.kind, _compute(one.compute), one.slug, one.id))


def _compute(label: str) -> int:
    digits = label.rstrip("x")
    return int(digits) if digits.isdigit() else 0
