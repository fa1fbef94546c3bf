"""Where a text encoder comes from: the MiniLM package, a user's folder, or the Hugging Face hub. Imports no torch.

A stage identifies the encoder by something that cannot change later: a hash of the folder's content, or the commit on
the hub. How an encoder is loaded is in `scaling.text.load`.
"""

import hashlib
import json
from importlib.util import find_spec
from pathlib import Path

from scaling.core.errors import UserError
from scaling.core.identity import digest
from scaling.core.specs import TextSpec

READABLE_FILES = ("*.json", "*.safetensors", "*.txt", "*.model")
"""Patterns of the files that a loader may read: the config, the weights, and the vocabularies of tokenizers."""

WIDTHS = ("hidden_size", "d_model", "dim")
"""Names of the width in config.json; model families use different ones."""


def is_folder(encoder: str) -> bool:
    """Whether the name of an encoder is a folder. Names on the hub do not begin with "/" or "."."""
    return encoder.startswith(("/", "."))


def encoder_manifest(folder: Path, text: TextSpec) -> str:
    """16 hex digits over the names and contents of the files that are read.

    Raises UserError where the folder holds no text encoder, where its width is not that of `text`, or where the package
    that reads it is missing.
    """
    _need_transformers(str(folder))
    if not folder.is_dir():
        raise UserError(f"{folder}: no such folder of a text encoder")
    for pattern in ("config.json", "*.safetensors"):
        if not list(folder.glob(pattern)):
            raise UserError(f"{folder}: holds no {pattern}; give the folder of a model that `save_pretrained` wrote")
    check_width(folder / "config.json", text)
    files = {path for pattern in READABLE_FILES for path in folder.glob(pattern)}
    return digest(sorted((path.name, _sha256(path)) for path in files))


def pin(text: TextSpec) -> TextSpec:
    """The same text spec with a commit in the encoder's name: `name@revision`, or `name`, becomes `name@commit`.

    Asks the hub or, without a network, the hub's cache on this machine. Raises UserError where neither knows the name,
    where the width is not that of `text`, or where the package is missing.
    """
    _need_transformers(text.encoder)
    from huggingface_hub import hf_hub_download

    name, _, revision = text.encoder.partition("@")
    try:
        config = Path(hf_hub_download(name, "config.json", revision=revision or None))
    except (OSError, ValueError) as error:
        raise _unavailable(text.encoder, error) from None
    check_width(config, text)
    return text.replace(encoder=f"{name}@{config.parent.name}")  # .../snapshots/<commit>/config.json


def download(encoder: str) -> Path:
    """The folder with the files of an encoder `name@commit`, downloaded from the hub unless its cache has them.

    Raises UserError where they cannot be downloaded.
    """
    from huggingface_hub import snapshot_download

    name, _, commit = encoder.partition("@")
    try:
        return Path(
            snapshot_download(name, revision=commit, allow_patterns=list(READABLE_FILES), ignore_patterns=["*/*"])
        )
    except (OSError, ValueError) as error:
        raise _unavailable(encoder, error) from None


def check_width(config: Path, text: TextSpec) -> None:
    """Raises UserError, with the correct width, where config.json has another one than `text`. Called when a sweep is
    planned, before any time is spent. A config without one of the names in WIDTHS is checked when the encoder is
    loaded."""
    try:
        document = json.loads(config.read_text(encoding="utf-8"))
    except ValueError as error:
        raise UserError(f"{config}: not valid JSON: {error}") from None
    sections = (document.get("text_config") or {}, document)
    width = next((section[name] for section in sections for name in WIDTHS if name in section), text.width)
    if width != text.width:
        raise wrong_width(config.parent, text, width)


def wrong_width(encoder: str | Path, text: TextSpec, width: int) -> UserError:
    """The error for an encoder whose states have this width and not that of `text`."""
    return UserError(f"{encoder}: its token states have width {width}, but text.width is {text.width}: give {width}")


def _unavailable(encoder: str, error: Exception) -> UserError:
    return UserError(
        f"{encoder}: neither a folder (which begins with '/' or '.') nor available from the Hugging Face hub: "
        f"{str(error).strip().splitlines()[0]}"
    )


def _need_transformers(encoder: str) -> None:
    if find_spec("transformers") is None:
        raise UserError(f"text.encoder is {encoder}, which needs the extra 'hf': pip install 'scaling[hf]'")


def _sha256(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
