"""Cached latents: every clip is encoded once, and every model of a sweep trains on the same numbers.

A folder holds one `latents-<t>x<h>x<w>.safetensors` for each shape, `text.safetensors` with the token states of every
distinct caption, and clips.json, which says of each clip its shape, its row, its caption and whether it is held out.
"""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from scaling.flow import seeded
from scaling.models.dit import patchify
from scaling.models.rope import Grid
from scaling.store import read_document, replacing, write_document


@dataclass(frozen=True)
class Caption:
    """Text as the DiT reads it: states (clips, m, text_dim), mask (clips, m), pooled (clips, text_dim)."""

    states: Tensor
    mask: Tensor
    pooled: Tensor

    def to(self, device: torch.device) -> "Caption":
        return Caption(self.states.to(device), self.mask.to(device), self.pooled.to(device))

    def dropped(self, drop: Tensor) -> "Caption":
        """Without the captions where `drop` (clips,) is True."""
        return Caption(self.states, self.mask & ~drop[:, None], self.pooled)

    def rows(self, index: list[int]) -> "Caption":
        return Caption(self.states[index], self.mask[index], self.pooled[index])


@dataclass(frozen=True)
class Packed:
    """Clips one after another: patches (tokens, c), the grid of each clip, its captions, its numbers."""

    patches: Tensor
    grids: list[Grid]
    caption: Caption
    clips: list[int]


class LatentSet:
    """The latents of one half of the data (training or held out), normalised per channel."""

    def __init__(self, folder: Path, *, held_out: bool, patch: int) -> None:
        document = read_document(folder / "clips.json")
        self.mean, self.std = torch.tensor(document["mean"]), torch.tensor(document["std"])
        self.entries = [entry for entry in document["clips"] if entry["held_out"] == held_out]
        self.captions: list[str] = document["captions"]
        self.patch = patch
        text = load_file(folder / "text.safetensors")
        self.text = Caption(text["states"], text["mask"], text["pooled"])
        self.patches: dict[str, Tensor] = {}
        for shape in sorted({entry["shape"] for entry in self.entries}):
            latents = load_file(folder / f"latents-{shape}.safetensors")["latents"]
            self.patches[shape] = patchify((latents - self.mean) / self.std, patch)

    def __len__(self) -> int:
        return len(self.entries)

    @property
    def channels(self) -> int:
        return len(self.mean)

    @property
    def text_tokens(self) -> int:
        return self.text.mask.shape[1]

    @property
    def text_dim(self) -> int:
        return self.text.pooled.shape[1]

    @cached_property
    def grids(self) -> list[Grid]:
        """Tokens along t, h, w of every clip."""
        return [grid_of(entry["shape"], self.patch) for entry in self.entries]

    def caption(self, clip: int) -> str:
        return self.captions[self.entries[clip]["caption"]]

    def shape(self, clip: int) -> tuple[int, int, int]:
        """Latent size (t, h, w) of a clip."""
        t, h, w = map(int, self.entries[clip]["shape"].split("x"))
        return t, h, w

    def pack(self, clips: list[int]) -> Packed:
        """These clips as one packed batch, clips of one shape beside each other."""
        clips = sorted(clips, key=lambda clip: self.entries[clip]["shape"]) if len(self.patches) > 1 else clips
        entries = [self.entries[clip] for clip in clips]
        if len(self.patches) == 1:
            patches = next(iter(self.patches.values()))[[entry["row"] for entry in entries]].flatten(0, 1)
        else:
            patches = torch.cat([self.patches[entry["shape"]][entry["row"]] for entry in entries])
        text = self.text.rows([entry["caption"] for entry in entries])
        return Packed(patches, [self.grids[clip] for clip in clips], text, clips)

    def order(self, step: int, batch_clips: int, seed: int) -> list[int]:
        """The clips of a training step: an endless shuffle in epochs that depends on (seed, step) alone."""
        clips = []
        for position in range(step * batch_clips, (step + 1) * batch_clips):
            epoch, place = divmod(position, len(self))
            clips.append(self._shuffle(epoch, seed)[place])
        return clips

    def _shuffle(self, epoch: int, seed: int) -> list[int]:
        if getattr(self, "_epoch", None) != (epoch, seed):
            self._epoch = (epoch, seed)
            self._order = torch.randperm(len(self), generator=seeded(seed, 0, epoch)).tolist()
        return self._order


def grid_of(shape: str, patch: int) -> Grid:
    """`<t>x<h>x<w>` of latents -> tokens along t, h, w."""
    t, h, w = map(int, shape.split("x"))
    return t, h // patch, w // patch


class LatentWriter:
    """Collects latents by shape and writes the folder; clips.json comes last."""

    def __init__(self) -> None:
        self.latents: dict[str, list[Tensor]] = {}
        self.entries: list[dict] = []
        self.captions: dict[str, int] = {}

    def add(self, latent: Tensor, caption: str, held_out: bool) -> None:
        """latent: (t, h, w, c)."""
        shape = "x".join(str(size) for size in latent.shape[:3])
        rows = self.latents.setdefault(shape, [])
        number = self.captions.setdefault(caption, len(self.captions))
        self.entries.append({"shape": shape, "row": len(rows), "caption": number, "held_out": held_out})
        rows.append(latent)

    def write(self, folder: Path, text: Caption) -> None:
        """Writes everything; the channel statistics are those of the training clips."""
        used = [
            self.latents[entry["shape"]][entry["row"]].flatten(0, 2) for entry in self.entries if not entry["held_out"]
        ]
        values = torch.cat(used).double()
        for shape, rows in self.latents.items():
            with replacing(folder / f"latents-{shape}.safetensors") as tmp:
                save_file({"latents": torch.stack(rows)}, tmp)
        with replacing(folder / "text.safetensors") as tmp:
            save_file({"states": text.states, "mask": text.mask, "pooled": text.pooled}, tmp)
        document = {
            "clips": self.entries,
            "captions": list(self.captions),
            "mean": values.mean(0).tolist(),
            "std": values.std(0).tolist(),
        }
        write_document(folder / "clips.json", document)
