"""Where the latest job of a stage wrote its log."""

from pathlib import Path

from slurm.stage_status import StageStatus
from slurm.submissions import Submissions


def log_files(out: Path, stage: StageStatus, rank: int) -> list[Path]:
    """The files of a stage's latest job that are not empty: what it printed, and its events."""
    folder = out / "runs" / stage.id
    files = [*folder.glob(f"ranks/{rank}.log"), *folder.glob("jobs/*_log.*")]
    if stage.job:
        submissions = Submissions(out)
        latest = [submission for submission in submissions.all() if stage.id in submission.stages][-1]
        files = list(submissions.jobs_folder(latest).glob(f"{stage.job}_{rank}_log.*"))
    writer = f".rank-{rank}" if rank else ""
    files += sorted(folder.glob(f"events.[0-9]*{writer}.jsonl"))[-1:]
    return [path for path in files if path.stat().st_size]


def controller_log_files(out: Path) -> list[Path]:
    """The files of the latest job that continued the sweep and has printed anything."""
    submissions = Submissions(out)
    folders = [submissions.jobs_folder(submission) for submission in submissions.all() if not submission.runs_stages]
    logs = [sorted(path for path in folder.glob("*_log.*") if path.stat().st_size) for folder in folders]
    return max(filter(None, logs), key=lambda files: files[0].stat().st_mtime, default=[])
