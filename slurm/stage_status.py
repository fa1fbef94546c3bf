"""The status of every stage of an output folder: its state, its progress and its speed. Imports no torch and no
pandas."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from scaling.core.attempts import attempts
from scaling.core.errors import UserError
from scaling.core.label import compute_name
from scaling.core.stage_folder import StageFolder
from scaling.core.store import read_document
from slurm.outstanding import is_continued
from slurm.queue_cache import QueueView
from slurm.speed import Speed, read_speed
from slurm.states import State, SweepContext, derive_state, event_log
from slurm.submissions import Submission, SubmittedStage, latest_of_stages


@dataclass(frozen=True)
class StageStatus:
    """The status of one stage."""

    id: str
    kind: str
    slug: str
    compute: str
    multiple: float | None
    """Compute budget as a multiple of the base budget; None where the stage has none."""
    state: State
    note: str
    """Why it is in this state, in a few words, or the error message of a failure."""
    step: int | None
    total: int | None
    loss: float | None
    tokens_per_second: float | None
    mfu: float | None
    eta_seconds: float | None
    attempts: int
    gpu_hours: float
    job: str
    """SLURM's name of its latest job; empty where it has none."""
    parents: Mapping[str, str]

    def to_document(self) -> dict[str, Any]:
        return asdict(self)


def statuses(out: Path, submissions: Sequence[Submission], view: QueueView, now: float) -> list[StageStatus]:
    """The status of all stages with a spec, parents first. `now` is the file system's time, in seconds since the epoch,
    from which the clocks of machines may differ.

    Raises UserError where a file is damaged.
    """
    latest = latest_of_stages(submissions)
    context = SweepContext(view, now, is_continued(submissions, view))
    return _ordered([_status(path, latest, context) for path in (out / "runs").glob("*/spec.json")])


def _status(spec_path: Path, latest: Mapping[str, SubmittedStage], context: SweepContext) -> StageStatus:
    spec, folder = read_document(spec_path), StageFolder(spec_path.parent)
    fields = spec.get("fields") if isinstance(spec, dict) else None
    if not isinstance(fields, dict) or "kind" not in fields or "slug" not in spec:
        raise UserError(f"{spec_path}: 'fields.kind' or 'slug' is missing; remove the folder and submit again")
    multiple = spec.get("multiple")
    stage = folder.path.name
    past_attempts, submitted = attempts(folder), latest.get(stage)
    state, note = derive_state(folder, past_attempts, submitted, context)
    is_running = bool(past_attempts) and state in ("running", "stalled")
    speed = read_speed(event_log(folder, past_attempts[-1])) if is_running else Speed()
    return StageStatus(
        id=stage,
        kind=fields["kind"],
        slug=spec["slug"],
        compute="" if multiple is None else compute_name(multiple),
        multiple=multiple,
        state=state,
        note=note,
        step=past_attempts[-1].done if past_attempts else None,
        total=past_attempts[-1].total if past_attempts else None,
        loss=past_attempts[-1].loss if past_attempts else None,
        tokens_per_second=speed.tokens_per_second,
        mfu=speed.mfu,
        eta_seconds=speed.eta_seconds,
        attempts=len(past_attempts),
        gpu_hours=sum(attempt.gpus * attempt.seconds for attempt in past_attempts) / 3600,
        job=(submitted.job_id if submitted is not None else None) or "",
        parents=spec.get("parents", {}),
    )


def _ordered(stages: Sequence[StageStatus]) -> list[StageStatus]:
    """Parents first; among those, stages of one kind together, by compute budget."""
    by_id = {status.id: status for status in stages}
    levels: dict[str, int] = {}

    def level(stage: str) -> int:
        if stage not in levels:
            parents = by_id[stage].parents.values()
            levels[stage] = 1 + max((level(parent) for parent in parents if parent in by_id), default=0)
        return levels[stage]

    return sorted(
        stages, key=lambda status: (level(status.id), status.kind, status.multiple or 0.0, status.slug, status.id)
    )
