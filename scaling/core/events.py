"""What a stage says while it works."""

import time
from pathlib import Path
from typing import Any

from scaling.core import signals
from scaling.core.store import append_jsonl


class Events:
    """What a stage says while it works: progress for people, never a source of results."""

    def __init__(self, path: Path) -> None:
        self.path, self.opened = path, time.monotonic()

    def log(self, **row: Any) -> None:
        """Appends one event, such as `done=120, total=800, loss=0.61`, and `seconds` since the log was opened."""
        append_jsonl(self.path, {**row, "seconds": round(time.monotonic() - self.opened, 3)})

    def progress(self, done: int, total: int, **row: Any) -> None:
        """`log`, from work that can stop here. Raises StoppedError where it should."""
        self.log(done=done, total=total, **row)
        signals.check()
