"""Cached latents: every clip is encoded once, and every model of a sweep trains on the same numbers.

A folder holds for each shape shards `latents-train-<t>x<h>x<w>-<number>.safetensors` and
`latents-held-out-<t>x<h>x<w>-<number>.safetensors`, as the VAE gave them; `text.safetensors` with the token states of
every distinct caption; and clips.json, which says of each clip its shape, its shard and row, its caption and whether it
is held out, and gives each channel's mean and deviation.
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
"""Size of a shard, at most, or one clip."""


@dataclass(frozen=True)
class Packed:
    """Clips one after another: patches (tokens, c), the grid of each clip, its captions, its numbers."""

    patches: Tensor
    grids: list[Grid]
    caption: EncodedCaptions
    clips: list[int]


class LatentSet:
    """The latents of one half of the data (training or held out); batches of them are normalised per channel."""

    def __init__(self, folder: Path, *, held_out: bool, patch: int) -> None:
        document = read_document(folder / "clips.json")
        self.mean, self.std = torch.tensor(document["mean"]), torch.tensor(document["std"])
        self.entries = [entry for entry in document["clips"] if entry["held_out"] == held_out]
        self.captions: list[str] = document["captions"]
        self.patch = patch
        text = load_file(folder / "text.safetensors")
        self.text = EncodedCaptions(text["states"], text["mask"], text["pooled"])
        self.latents = {
            (shape, shard): load_file(_file(folder, shape, held_out, shard))["latents"]
            for shape, shard in {(entry["shape"], entry["shard"]) for entry in self.entries}
        }
        """By shape and shard: mapped files, of which memory holds what is in use."""

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
        return [token_grid(self.shape(clip), self.patch) for clip in range(len(self))]

    def caption(self, clip: int) -> str:
        return self.captions[self.entries[clip]["caption"]]

    def shape(self, clip: int) -> Grid:
        """Latent size (t, h, w) of a clip."""
        t, h, w = map(int, self.entries[clip]["shape"].split("x"))
        return t, h, w

    def by_shape(self, clips: list[int]) -> list[int]:
        """These clips with those of one shape beside each other, as packing wants them."""
        return sorted(clips, key=lambda clip: self.entries[clip]["shape"])

    def pack(self, clips: list[int]) -> Packed:
        """These clips as one packed batch, in the order of `by_shape`."""
        clips = self.by_shape(clips)
        entries = [self.entries[clip] for clip in clips]
        patches = []
        for shape, same in groupby(entries, key=lambda entry: entry["shape"]):
            latents = torch.stack([self.latents[shape, entry["shard"]][entry["row"]] for entry in same])
            patches.append(patchify((latents - self.mean) / self.std, self.patch).flatten(0, 1))
        text = self.text.rows([entry["caption"] for entry in entries])
        return Packed(torch.cat(patches), [self.grids[clip] for clip in clips], text, clips)


def _file(folder: Path, shape: str, held_out: bool, shard: int) -> Path:
    return folder / f"latents-{'held-out' if held_out else 'train'}-{shape}-{shard:04d}.safetensors"


class Moments:
    """Mean and variance per channel of values that come in parts, in float64 (Chan, Golub & LeVeque 1983)."""

    def __init__(self) -> None:
        self.count = 0
        self.mean = self.squares = torch.zeros((), dtype=torch.float64)
        """Mean, and sum of squared differences from it, of the values so far: (c,)."""

    def add(self, values: Tensor) -> None:
        """values: (n, c)."""
        values = values.double()
        count, mean = self.count + len(values), values.mean(0)
        shift = mean - self.mean
        among = (values - mean).square().sum(0)
        self.squares = self.squares + among + shift.square() * (self.count * len(values) / count)
        self.mean = self.mean + shift * (len(values) / count)
        self.count = count

    @property
    def std(self) -> Tensor:
        """(c,), with one value less in the denominator."""
        return (self.squares / (self.count - 1)).sqrt()


class LatentWriter:
    """Writes the folder as latents come, shard by shard, so that a shard of each shape is all it holds; clips.json
    comes last."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.open: dict[tuple[str, bool], list[Tensor]] = {}
        """By shape and half, the latents of the shard that is not full yet."""
        self.shards: Counter[tuple[str, bool]] = Counter()
        """How many are written."""
        self.moments = Moments()
        """Of the training clips."""
        self.entries: list[dict] = []
        self.captions: dict[str, int] = {}

    def add(self, latent: Tensor, caption: str, held_out: bool) -> None:
        """latent: (t, h, w, c). Raises UserError if the disk is full."""
        shape = "x".join(str(size) for size in latent.shape[:3])
        kind = shape, held_out
        rows = self.open.setdefault(kind, [])
        number = self.captions.setdefault(caption, len(self.captions))
        place = {"shape": shape, "shard": self.shards[kind], "row": len(rows)}
        self.entries.append({**place, "caption": number, "held_out": held_out})
        rows.append(latent)
        if not held_out:
            self.moments.add(latent.flatten(0, 2))
        if (len(rows) + 1) * latent.nbytes > SHARD_BYTES:
            self._close(kind)

    def finish(self, text: EncodedCaptions) -> None:
        """Writes the rest; the channel statistics are those of the training clips. Raises UserError if the disk is
        full."""
        for kind in list(self.open):
            self._close(kind)
        states = save({"states": text.states, "mask": text.mask, "pooled": text.pooled})
        write_bytes(self.folder / "text.safetensors", states)
        document = {
            "clips": self.entries,
            "captions": list(self.captions),
            "mean": self.moments.mean.tolist(),
            "std": self.moments.std.tolist(),
        }
        write_document(self.folder / "clips.json", document)

    def _close(self, kind: tuple[str, bool]) -> None:
        latents = torch.stack(self.open.pop(kind))
        write_bytes(_file(self.folder, *kind, self.shards[kind]), save({"latents": latents}))
        self.shards[kind] += 1
