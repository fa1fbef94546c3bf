"""Checkpoints that are whole or are not believed: safetensors files, a manifest with their hashes, a rename at the end.

Where ranks divide the tensors, each writes its own parts, and the parts of any number of ranks are read by any number.
Nothing here is a pickle: optimizer state is tensors by name, and the rest of it follows from the spec.
"""

import hashlib
import json
import os
import shutil
from collections.abc import Collection
from pathlib import Path

import torch
from pydantic import Field
from safetensors.torch import load as parse_tensors
from safetensors.torch import save as to_bytes
from torch import Tensor
from torch.distributed.tensor import DTensor

from scaling.core.errors import UserError
from scaling.core.specs import Spec, parse_spec
from scaling.core.store import FULL, no_space, read_document, sync, temporary, write_document
from scaling.distributed.group import all_gather
from scaling.distributed.ranks import rank, ranks
from scaling.distributed.shards import local, shard

KEEP = 2
"""The newest and the one before it, in case the newest turns out to be damaged."""

Groups = dict[str, dict[str, Tensor]]
"""File stem -> name -> tensor."""


class Manifest(Spec):
    """manifest.json: the updates done, the ranks that divided the tensors, and file name -> SHA-256."""

    step: int
    ranks: int = Field(1, ge=1)
    files: dict[str, str]


def save(folder: Path, step: int, groups: Groups) -> None:
    """Writes `folder/step-<step>/` atomically and removes all but the newest checkpoints. Every rank calls it.

    Raises UserError on a full disk; the checkpoints from before are still there then.
    """
    divided = ranks() if any(isinstance(tensor, DTensor) for each in groups.values() for tensor in each.values()) else 1
    if rank() >= divided:
        return  # it holds what the first rank holds
    final = folder / _name(step)
    tmp = final.with_name(_agreed(temporary(final).name)) if divided > 1 else temporary(final)
    try:
        tmp.mkdir(parents=True, exist_ok=divided > 1)
        digests = []
        for stem, tensors in groups.items():
            path = tmp / _file(stem, rank(), divided)
            content = _content(tensors)
            path.write_bytes(content)
            sync(path)
            digests.append(hashlib.sha256(content).digest())
        if divided > 1:
            by_rank = all_gather(torch.tensor([list(digest) for digest in digests], dtype=torch.uint8))
        else:
            by_rank = torch.tensor([[list(digest) for digest in digests]], dtype=torch.uint8)
        if rank() > 0:
            return
        files = {
            _file(stem, number, divided): bytes(digest.tolist()).hex()
            for number, of_rank in enumerate(by_rank)
            for stem, digest in zip(groups, of_rank, strict=True)
        }
        write_document(tmp / "manifest.json", Manifest(step=step, ranks=divided, files=files).model_dump())
        if final.exists():  # left by an attempt whose checkpoint did not verify
            shutil.rmtree(final)
        os.replace(tmp, final)
        sync(folder)
    except OSError as error:
        if error.errno in FULL:
            raise no_space(final) from None
        raise
    finally:
        if rank() == 0:
            shutil.rmtree(tmp, ignore_errors=True)
    found = sorted(folder.glob("step-*"))
    here = found.index(final) + 1
    for other in [*found[: max(0, here - KEEP)], *found[here:]]:  # newer ones did not verify, or this would not be new
        shutil.rmtree(other)


def newest(folder: Path, stems: Collection[str]) -> tuple[int, Groups, list[str]]:
    """The newest checkpoint that verifies and holds `stems`, no more and no fewer: its step, its tensors, and what is
    wrong with the newer ones that do not.

    Step 0 and no tensors where there is none.
    """
    problems: list[str] = []
    for path in sorted(folder.glob("step-*"), reverse=True):
        try:
            manifest = _manifest(path, stems)
            return manifest.step, {stem: _assembled(path, stem, manifest) for stem in stems}, problems
        except UserError as error:
            problems.append(f"{path.name} is damaged ({error}); falling back to the one before")
    return 0, {}, problems


def optimizer_tensors(optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """State of an optimizer as `<parameter number>.<key>` -> tensor."""
    state = optimizer.state_dict()["state"]
    return {f"{number}.{key}": value for number, entry in state.items() for key, value in entry.items()}


def restore_optimizer(optimizer: torch.optim.Optimizer, tensors: dict[str, Tensor]) -> None:
    """Puts back what `optimizer_tensors` took out, given whole; the groups and their settings stay as constructed."""
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    state: dict[int, dict[str, Tensor]] = {}
    for name, value in tensors.items():
        number, key = name.split(".")
        state.setdefault(int(number), {})[key] = shard(value, parameters[int(number)])
    optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})


def _name(step: int) -> str:
    return f"step-{step:08d}"


def _manifest(folder: Path, stems: Collection[str]) -> Manifest:
    """The manifest of one checkpoint. Raises UserError where it is not that of a whole checkpoint of this name."""
    path = folder / "manifest.json"
    manifest = parse_spec(Manifest, read_document(path), str(path))
    if len(manifest.files) != manifest.ranks * len(stems) or any(
        _file(stem, number, manifest.ranks) not in manifest.files for stem in stems for number in range(manifest.ranks)
    ):
        raise UserError(f"{path}: names other files than {', '.join(stems)} of {manifest.ranks} ranks")
    if _name(manifest.step) != folder.name:
        raise UserError(f"{path}: is of step {manifest.step}")
    return manifest


def _file(stem: str, number: int, divided: int) -> str:
    return f"{stem}.safetensors" if divided == 1 else f"{stem}.{number}-of-{divided}.safetensors"


def _agreed(name: str) -> str:
    """The first rank's word for it."""
    width = 255  # bytes in a file name, at most
    words = all_gather(torch.tensor(list(name.encode().ljust(width, b"\0")), dtype=torch.uint8))
    return bytes(words[0].tolist()).rstrip(b"\0").decode()


def _content(tensors: dict[str, Tensor]) -> bytes:
    """A safetensors file of what this rank keeps. The metadata names the tensors that are divided, each with the row
    where the part begins and the rows of the whole. Of the others the first rank's is kept."""
    places, parts = {}, {}
    for name, tensor in tensors.items():
        if isinstance(tensor, DTensor):
            places[name] = f"{min(rank() * -(-len(tensor) // ranks()), len(tensor))}/{len(tensor)}"
        if isinstance(tensor, DTensor) or rank() == 0:
            parts[name] = local(tensor).contiguous()
    return to_bytes(parts, metadata=places or None)


def _assembled(folder: Path, stem: str, manifest: Manifest) -> dict[str, Tensor]:
    """Whole tensors from the files of all ranks. Raises UserError where one is not what the manifest says."""
    tensors: dict[str, Tensor] = {}
    for number in range(manifest.ranks):
        name = _file(stem, number, manifest.ranks)
        content = _verified(folder / name, manifest.files[name])
        places = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")]).get("__metadata__", {})
        for key, part in parse_tensors(content).items():
            if key not in places:
                tensors[key] = part
                continue
            first, rows = map(int, places[key].split("/"))
            full = tensors.setdefault(key, torch.empty(rows, *part.shape[1:], dtype=part.dtype))
            full[first : first + len(part)] = part
    return tensors


def _verified(path: Path, digest: str) -> bytes:
    try:
        content = path.read_bytes()
    except OSError as error:
        raise UserError(f"{path}: {error.strerror}") from None
    if hashlib.sha256(content).hexdigest() != digest:
        raise UserError(f"{path}: does not match its manifest")
    return content
