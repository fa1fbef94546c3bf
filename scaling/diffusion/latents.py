"""Cached latents: every clip is encoded once, and every model of a sweep trains on the same numbers.

The folder of a cache holds:
- for each shape, shards `latents-train-<t>x<h>x<w>-<number>.safetensors` and
  `latents-held-out-<t>x<h>x<w>-<number>.safetensors` of latents, not normalized;
- `text.safetensors`, the token states of every distinct caption;
- `clips.json`, which names the shape, the shard, the row and the caption of each clip and whether it is held out, and
  the mean and standard deviation of each channel.
"""

from collections import Counter
from dataclasses import dataclass
from functools import cached_property
from itertools import groupby
from pathlib import Path

import torch
from safetensors.torch import load_file, save
from torch import Tensor

from scaling.accounting.geometry import Grid, token_grid
from scaling.core.store import read_document, write_bytes, write_document
from scaling.models.dit import patchify
from scaling.text.encoded_captions import EncodedCaptions

SHARD_BYTES = 2**28
"""Largest size of a shard, unless a single clip is larger."""


@dataclass(frozen=True)
class Packed:
    """A batch of clips of different sizes, packed one after another along the token axis without padding."""

    patches: Tensor
    """Normalized patches, (tokens, c)."""
    grids: list[Grid]
    """The number of tokens of each clip along t, h and w."""
    caption: EncodedCaptions
    """The captions, one row for each clip."""
    clips: list[int]
    """The number of each clip in its `LatentSet`."""


class LatentSet:
    """The latents of the training clips, or those of the held-out clips. Batches are normalized per channel."""

    def __init__(self, folder: Path, *, held_out: bool, patch: int) -> None:
        document = read_document(folder / "clips.json")
        self.mean, self.std = torch.tensor(document["mean"]), torch.tensor(document["std"])
        self.entries = [entry for entry in document["clips"] if entry["held_out"] == held_out]
        self.captions: list[str] = document["captions"]
        self.patch = patch
        text = load_file(folder / "text.safetensors")
        self.text = EncodedCaptions(text["states"], text["mask"], text["pooled"])
        self.latents = {
            (shape, shard): load_file(_shard_path(folder, shape, held_out, shard))["latents"]
            for shape, shard in {(entry["shape"], entry["shard"]) for entry in self.entries}
        }
        """The latents of each shard, by shape and shard number. The files are memory-mapped, so that only what is used
        is read."""

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
        """The number of tokens of every clip along t, h and w."""
        return [token_grid(self.shape(clip), self.patch) for clip in range(len(self))]

    def caption(self, clip: int) -> str:
        """The caption of a clip as text."""
        number: int = self.entries[clip]["caption"]
        return self.captions[number]

    def shape(self, clip: int) -> Grid:
        """The latent size (t, h, w) of a clip."""
        t, h, w = map(int, self.entries[clip]["shape"].split("x"))
        return t, h, w

    def by_shape(self, clips: list[int]) -> list[int]:
        """These clips sorted so that clips of one shape are neighbors, which packing requires."""
        return sorted(clips, key=lambda clip: self.entries[clip]["shape"])

    def pack(self, clips: list[int]) -> Packed:
        """These clips as one packed batch, in the order of `by_shape`."""
        clips = self.by_shape(clips)
        entries = [self.entries[clip] for clip in clips]
        patches = []
        for shape, neighbors in groupby(entries, key=lambda entry: entry["shape"]):
            latents = torch.stack([self.latents[shape, entry["shard"]][entry["row"]] for entry in neighbors])
            patches.append(patchify((latents - self.mean) / self.std, self.patch).flatten(0, 1))
        text = self.text.rows([entry["caption"] for entry in entries])
        return Packed(torch.cat(patches), [self.grids[clip] for clip in clips], text, clips)


def _shard_path(folder: Path, shape: str, held_out: bool, shard: int) -> Path:
    return folder / f"latents-{'held-out' if held_out else 'train'}-{shape}-{shard:04d}.safetensors"


class Moments:
    """Running mean and standard deviation per channel, in float64 (Chan, Golub & LeVeque 1983)."""

    def __init__(self) -> None:
        self.count = 0
        self.mean = self.squares = torch.zeros((), dtype=torch.float64)
        """The mean of the values so far, and the sum of their squared differences from it, each (c,)."""

    def add(self, values: Tensor) -> None:
        """Takes in values (n, c)."""
        values = values.double()
        count, mean = self.count + len(values), values.mean(0)
        shift = mean - self.mean
        new_squares = (values - mean).square().sum(0)
        self.squares = self.squares + new_squares + shift.square() * (self.count * len(values) / count)
        self.mean = self.mean + shift * (len(values) / count)
        self.count = count

    @property
    def std(self) -> Tensor:
        """The standard deviation (c,), with n - 1 in the denominator."""
        return (self.squares / (self.count - 1)).sqrt()


class LatentWriter:
    """Writes the folder of a cache while the clips are encoded. It holds at most one shard of each shape in memory, and
    writes clips.json last."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.open: dict[tuple[str, bool], list[Tensor]] = {}
        """The latents of the shards that are not full yet, by shape and whether they are held out."""
        self.shards: Counter[tuple[str, bool]] = Counter()
        """The number of shards written, by shape and whether they are held out."""
        self.moments = Moments()
        """The channel statistics of the training clips."""
        self.entries: list[dict[str, str | int]] = []
        """The entries of clips.json, one for each clip."""
        self.captions: dict[str, int] = {}
        """The number of each distinct caption."""

    def add(self, latent: Tensor, caption: str, held_out: bool) -> None:
        """Adds the latent (t, h, w, c) of a clip. Raises UserError if the disk is full."""
        shape = "x".join(str(size) for size in latent.shape[:3])
        key = shape, held_out
        rows = self.open.setdefault(key, [])
        number = self.captions.setdefault(caption, len(self.captions))
        entry: dict[str, str | int] = {"shape": shape, "shard": self.shards[key], "row": len(rows)}
        self.entries.append({**entry, "caption": number, "held_out": held_out})
        rows.append(latent)
        if not held_out:
            self.moments.add(latent.flatten(0, 2))
        if (len(rows) + 1) * latent.nbytes > SHARD_BYTES:
            self._write_shard(key)

    def finish(self, text: EncodedCaptions) -> None:
        """Writes the shards that are not full, the text and clips.json. Raises UserError if the disk is full."""
        for key in list(self.open):
            self._write_shard(key)
        states = save({"states": text.states, "mask": text.mask, "pooled": text.pooled})
        write_bytes(self.folder / "text.safetensors", states)
        document = {
            "clips": self.entries,
            "captions": list(self.captions),
            "mean": self.moments.mean.tolist(),
            "std": self.moments.std.tolist(),
        }
        write_document(self.folder / "clips.json", document)

    def _write_shard(self, key: tuple[str, bool]) -> None:
        latents = torch.stack(self.open.pop(key))
        write_bytes(_shard_path(self.folder, *key, self.shards[key]), save({"latents": latents}))
        self.shards[key] += 1
