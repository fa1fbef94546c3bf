"""Checkpoints: folders of safetensors files and a manifest with their hashes. A folder gets its final name only when it
is complete, and is loaded only if all hashes match. When to save is decided in `scaling.training.loop`.

If tensors are sharded among ranks, each rank writes its own shards, and any number of ranks can load them.
Nothing here is a pickle: the state of an optimizer is stored as tensors by name, and its settings follow from the spec.
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
from scaling.distributed.ranks import rank, world_size
from scaling.distributed.shards import local, shard

KEEP = 2
"""Number of checkpoints to keep: the newest, and the one before it in case the newest is damaged."""

Groups = dict[str, dict[str, Tensor]]
"""The content of a checkpoint: file stem to tensor name to tensor."""


class Manifest(Spec):
    """The content of manifest.json."""

    step: int
    """The number of updates done."""
    ranks: int = Field(1, ge=1)
    """The number of ranks that the tensors are sharded among; 1 if they are not sharded."""
    files: dict[str, str]
    """The SHA-256 of each file by its name."""


def save(folder: Path, step: int, groups: Groups) -> None:
    """Writes `folder/step-<step>/` atomically and removes all but the newest checkpoints. Every rank calls it.

    Raises UserError if the disk is full. The earlier checkpoints still exist then.
    """
    writers = (
        world_size()
        if any(isinstance(tensor, DTensor) for group in groups.values() for tensor in group.values())
        else 1
    )
    if rank() >= writers:
        return  # this rank has the same tensors as the first one
    final = folder / _name(step)
    tmp = final.with_name(_name_of_first_rank(temporary(final).name)) if writers > 1 else temporary(final)
    try:
        tmp.mkdir(parents=True, exist_ok=writers > 1)
        digests = []
        for stem, tensors in groups.items():
            path = tmp / _file_name(stem, rank(), writers)
            content = _file_content(tensors)
            path.write_bytes(content)
            sync(path)
            digests.append(hashlib.sha256(content).digest())
        digest_bytes = torch.tensor([list(digest) for digest in digests], dtype=torch.uint8)
        digests_of_ranks = all_gather(digest_bytes) if writers > 1 else digest_bytes[None]
        if rank() > 0:
            return
        files = {
            _file_name(stem, number, writers): bytes(digest.tolist()).hex()
            for number, digests_of_rank in enumerate(digests_of_ranks)
            for stem, digest in zip(groups, digests_of_rank, strict=True)
        }
        write_document(tmp / "manifest.json", Manifest(step=step, ranks=writers, files=files).model_dump())
        if final.exists():  # an earlier checkpoint of this step, which did not verify
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
    paths = sorted(folder.glob("step-*"))
    end = paths.index(final) + 1
    for path in [*paths[: max(0, end - KEEP)], *paths[end:]]:  # any of later steps did not verify when training started
        shutil.rmtree(path)


def load_newest(folder: Path, stems: Collection[str]) -> tuple[int, Groups, list[str]]:
    """Loads the newest checkpoint that verifies and has exactly these file stems. Returns its step, its tensors, and a
    message for each newer checkpoint about what is wrong with it.

    Returns step 0 and no tensors if there is no such checkpoint.
    """
    problems: list[str] = []
    for path in sorted(folder.glob("step-*"), reverse=True):
        try:
            manifest = _manifest(path, stems)
            return manifest.step, {stem: _load_stem(path, stem, manifest) for stem in stems}, problems
        except UserError as error:
            problems.append(f"{path.name} is damaged ({error}); falling back to the one before")
    return 0, {}, problems


def optimizer_tensors(optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """The state of an optimizer as tensors by name, `<parameter number>.<key>`."""
    state = optimizer.state_dict()["state"]
    return {f"{number}.{key}": value for number, entry in state.items() for key, value in entry.items()}


def restore_optimizer(optimizer: torch.optim.Optimizer, tensors: dict[str, Tensor]) -> None:
    """Restores what `optimizer_tensors` returned, from full tensors. The optimizer's groups and settings stay as they
    were constructed."""
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    state: dict[int, dict[str, Tensor]] = {}
    for name, value in tensors.items():
        number, key = name.split(".")
        state.setdefault(int(number), {})[key] = shard(value, parameters[int(number)])
    optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})


def _name(step: int) -> str:
    return f"step-{step:08d}"


def _manifest(folder: Path, stems: Collection[str]) -> Manifest:
    """The manifest of one checkpoint. Raises UserError if it does not describe a complete checkpoint of this name."""
    path = folder / "manifest.json"
    manifest = parse_spec(Manifest, read_document(path), str(path))
    expected = {_file_name(stem, number, manifest.ranks) for stem in stems for number in range(manifest.ranks)}
    if manifest.files.keys() != expected:
        raise UserError(f"{path}: does not name exactly the files {', '.join(stems)} of {manifest.ranks} ranks")
    if _name(manifest.step) != folder.name:
        raise UserError(f"{path}: names step {manifest.step}, which is not that of its folder")
    return manifest


def _file_name(stem: str, number: int, writers: int) -> str:
    return f"{stem}.safetensors" if writers == 1 else f"{stem}.{number}-of-{writers}.safetensors"


def _name_of_first_rank(name: str) -> str:
    """The name that the first rank gives, on all ranks."""
    width = 255  # the largest number of bytes in a file name
    names = all_gather(torch.tensor(list(name.encode().ljust(width, b"\0")), dtype=torch.uint8))
    return bytes(names[0].tolist()).rstrip(b"\0").decode()


def _file_content(tensors: dict[str, Tensor]) -> bytes:
    """A safetensors file of this rank's tensors. Its metadata names the sharded tensors, each with the row where the
    shard begins and the number of rows of the full tensor. A tensor that is not sharded is in the first rank's file
    only."""
    row_offsets, parts = {}, {}
    for name, tensor in tensors.items():
        if isinstance(tensor, DTensor):
            row_offsets[name] = f"{min(rank() * -(-len(tensor) // world_size()), len(tensor))}/{len(tensor)}"
        if isinstance(tensor, DTensor) or rank() == 0:
            parts[name] = local(tensor).contiguous()
    return to_bytes(parts, metadata=row_offsets or None)


def _load_stem(folder: Path, stem: str, manifest: Manifest) -> dict[str, Tensor]:
    """The full tensors from the files of all ranks. Raises UserError if a file does not match the manifest."""
    tensors: dict[str, Tensor] = {}
    for number in range(manifest.ranks):
        name = _file_name(stem, number, manifest.ranks)
        content = _read_verified(folder / name, manifest.files[name])
        row_offsets = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")]).get("__metadata__", {})
        for key, part in parse_tensors(content).items():
            if key not in row_offsets:
                tensors[key] = part
                continue
            first, rows = map(int, row_offsets[key].split("/"))
            full = tensors.setdefault(key, torch.empty(rows, *part.shape[1:], dtype=part.dtype))
            full[first : first + len(part)] = part
    return tensors


def _read_verified(path: Path, digest: str) -> bytes:
    try:
        content = path.read_bytes()
    except OSError as error:
        raise UserError(f"{path}: {error.strerror}") from None
    if hashlib.sha256(content).hexdigest() != digest:
        raise UserError(f"{path}: does not match its manifest")
    return content
