"""What a video file was when it was indexed, by which a file that was replaced since is noticed when it is read."""

import os
from dataclasses import dataclass
from pathlib import Path

from scaling.core.errors import UserError
from scaling.data.manifest import sha256


@dataclass(frozen=True, slots=True)
class FileVersion:
    """The content of a file, and the signs by which it is recognized without being read."""

    bytes: int
    modified_ns: int
    """Time of the last change in nanoseconds, as the file system gives it."""
    sha256: str

    def require(self, path: Path) -> None:
        """Raises UserError where the file has another content now. It is read only if its size or its time differ. A
        file that cannot be opened is left to the reader, who says why."""
        size, modified_ns = size_and_time(path)
        if (size, modified_ns) == (self.bytes, self.modified_ns):
            return
        content = sha256(path)
        if content and content != self.sha256:
            raise UserError(
                f"{path}: has been replaced since the data stage read it; put the old file back, or run the command "
                "again, which takes the new one as new data"
            )


def size_and_time(path: Path) -> tuple[int, int]:
    """Bytes and time of the last change in nanoseconds; zeros where the file cannot be found."""
    try:
        status = os.stat(path)
    except OSError:
        return 0, 0
    return status.st_size, status.st_mtime_ns
