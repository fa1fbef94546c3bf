"""Checkpoints that are whole or are not believed: safetensors files, a manifest with their hashes, a rename at the end.

Nothing here is a pickle: optimiser state is tensors by name, and the rest of it follows from the spec.
"""

import errno
import hashlib
import os
import shutil
from pathlib import Path

import torch
from safetensors.torch import load as parse_tensors
from safetensors.torch import save as to_bytes
from torch import Tensor

from scaling.errors import UserError
from scaling.specs import Spec, parse_spec
from scaling.store import no_space, read_document, sync, temporary, write_document

KEEP = 2
"""The newest and the one before it, in case the newest turns out to be damaged."""

Groups = dict[str, dict[str, Tensor]]
"""File stem -> name -> tensor."""

STEMS = ("weights", "ema", "muon", "adamw")
"""The files of a checkpoint, no more and no fewer."""


class Manifest(Spec):
    """manifest.json: the updates done, and file name -> SHA-256."""

    step: int
    files: dict[str, str]


def save(folder: Path, step: int, groups: Groups) -> None:
    """Writes `folder/step-<step>/` atomically and removes all but the newest checkpoints.

    Raises UserError on a full disk; the checkpoints from before are still there then.
    """
    assert set(groups) == set(STEMS), f"a checkpoint holds {', '.join(STEMS)}, not {', '.join(groups)}"
    final = folder / _name(step)
    tmp = temporary(final)
    try:
        tmp.mkdir(parents=True)
        files = {}
        for stem, tensors in groups.items():
            path = tmp / f"{stem}.safetensors"
            content = to_bytes({name: tensor.contiguous() for name, tensor in tensors.items()})
            path.write_bytes(content)
            sync(path)
            files[path.name] = hashlib.sha256(content).hexdigest()
        write_document(tmp / "manifest.json", Manifest(step=step, files=files).model_dump())
        if final.exists():  # left by an attempt whose checkpoint did not verify
            shutil.rmtree(final)
        os.replace(tmp, final)
        sync(folder)
    except OSError as error:
        if error.errno == errno.ENOSPC:
            raise no_space(final) from None
        raise
    finally:
        shutil.rmtree(tmp, ignore_errors=True)
    for old in sorted(folder.glob("step-*"))[:-KEEP]:
        shutil.rmtree(old)


def newest(folder: Path) -> tuple[int, Groups, list[str]]:
    """The newest checkpoint that verifies: its step, its tensors, and what is wrong with the newer ones that do not.

    Step 0 and no tensors where there is none.
    """
    problems: list[str] = []
    for path in sorted(folder.glob("step-*"), reverse=True):
        try:
            manifest = _manifest(path)
            groups = {Path(name).stem: _verified(path / name, digest) for name, digest in manifest.files.items()}
            return manifest.step, groups, problems
        except UserError as error:
            problems.append(f"{path.name} is damaged ({error}); falling back to the one before")
    return 0, {}, problems


def optimiser_tensors(optimiser: torch.optim.Optimizer) -> dict[str, Tensor]:
    """State of an optimiser as `<parameter number>.<key>` -> tensor."""
    state = optimiser.state_dict()["state"]
    return {f"{number}.{key}": value for number, entry in state.items() for key, value in entry.items()}


def restore_optimiser(optimiser: torch.optim.Optimizer, tensors: dict[str, Tensor]) -> None:
    """Puts back what `optimiser_tensors` took out; the groups and their settings stay as constructed."""
    state: dict[int, dict[str, Tensor]] = {}
    for name, value in tensors.items():
        number, key = name.split(".")
        state.setdefault(int(number), {})[key] = value
    optimiser.load_state_dict({"state": state, "param_groups": optimiser.state_dict()["param_groups"]})


def _name(step: int) -> str:
    return f"step-{step:08d}"


def _manifest(folder: Path) -> Manifest:
    """The manifest of one checkpoint. Raises UserError where it is not that of a whole checkpoint of this name."""
    path = folder / "manifest.json"
    manifest = parse_spec(Manifest, read_document(path), str(path))
    if set(manifest.files) != {f"{stem}.safetensors" for stem in STEMS}:
        raise UserError(f"{path}: names other files than {', '.join(STEMS)}")
    if _name(manifest.step) != folder.name:
        raise UserError(f"{path}: is of step {manifest.step}")
    return manifest


def _verified(path: Path, digest: str) -> dict[str, Tensor]:
    try:
        content = path.read_bytes()
    except OSError as error:
        raise UserError(f"{path}: {error.strerror}") from None
    if hashlib.sha256(content).hexdigest() != digest:
        raise UserError(f"{path}: does not match its manifest")
    return parse_tensors(content)
