"""Stages that a user has cancelled, and has not retried since: a file in the folder of the stage tells the jobs."""

from pathlib import Path

from scaling.core.stage_folder import StageFolder


def is_cancelled(folder: StageFolder) -> bool:
    """Whether `scaling cancel` has cancelled this stage, and `scaling retry` has not been called since."""
    return cancel_mark(folder).exists()


def cancel_mark(folder: StageFolder) -> Path:
    """The file that marks the stage as cancelled."""
    return folder.path / "CANCELLED"
