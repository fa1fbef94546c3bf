"""The files of a user's folder that training skips: from the index of the `data` stage once that is complete, before it
from their headers."""

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from scaling.core.stage import Stage
from scaling.core.stage_fields import DataFields
from scaling.core.stage_folder import StageFolder

if TYPE_CHECKING:
    from scaling.data.index import SkippedFile


def skipped_files(stages: Iterable[Stage], runs: Path) -> "list[SkippedFile]":
    """Every skipped file by its path, with the reason. Raises UserError where an index is broken."""
    skipped: dict[str, str] = {}
    for stage in stages:
        if stage.kind != "data" or not stage.folder:
            continue
        from scaling.data.headers import skipped_by_header  # loads FFmpeg, which a plan of worlds does not need
        from scaling.data.index import Index

        index = StageFolder(runs / stage.id).path / "index.json"
        if index.exists():
            reasons = {row["file"]: row["reason"] for row in Index.load(index).skipped}
        else:
            reasons = skipped_by_header(Path(stage.folder), stage.fields_as(DataFields).data)
        skipped |= {str(Path(stage.folder) / file): reason for file, reason in reasons.items()}
    return [{"file": file, "reason": reason} for file, reason in skipped.items()]
