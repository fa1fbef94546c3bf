"""Checkpoints that are whole or are not believed: safetensors files, a manifest with their hashes, a rename at the end.

Nothing here is a pickle: optimiser state is tensors by name, and the rest of it follows from the spec.
"""

import errno
import hashlib
import os
import shutil
import uuid
from pathlib import Path

import torch
from safetensors.torch import load as parse_tensors
from safetensors.torch import save_file
from torch import Tensor

from scaling.errors import UserError
from scaling.store import no_space, read_document, sync, write_document

KEEP = 2
"""The newest and the one before it, in case the newest turns out to be damaged."""

Groups = dict[str, dict[str, Tensor]]
"""File stem -> name -> tensor."""


def save(folder: Path, step: int, groups: Groups) -> None:
    """Writes `folder/step-<step>/` atomically and removes all but the newest checkpoints.

    Raises UserError on a full disk; the checkpoints from before are still there then.
    """
    final = folder / f"step-{step:08d}"
    tmp = folder / f".{final.name}.{os.getpid()}.{uuid.uuid4().hex[:8]}.tmp"
    try:
        tmp.mkdir(parents=True)
        files = {}
        for stem, tensors in groups.items():
            path = tmp / f"{stem}.safetensors"
            save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, path)
            sync(path)
            files[path.name] = _sha256(path)
        write_document(tmp / "manifest.json", {"step": step, "files": files})
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
            manifest = read_document(path / "manifest.json")
            groups = {Path(name).stem: _verified(path / name, digest) for name, digest in manifest["files"].items()}
            return int(manifest["step"]), groups, problems
        except (UserError, KeyError, TypeError) as error:
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


def _verified(path: Path, digest: str) -> dict[str, Tensor]:
    if path.parent.resolve() != path.resolve().parent:
        raise UserError(f"{path}: leads out of its checkpoint")
    try:
        content = path.read_bytes()
    except OSError as error:
        raise UserError(f"{path}: {error.strerror}") from None
    if hashlib.sha256(content).hexdigest() != digest:
        raise UserError(f"{path}: does not match its manifest")
    return parse_tensors(content)


def _sha256(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
