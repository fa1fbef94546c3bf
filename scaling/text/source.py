"""Which text encoder a sweep names: MiniLM, a user's folder, or a model on the Hugging Face hub. Imports no torch.

Whatever the name, the stages keep what cannot change under them: a hash of the folder's content, or the hub's commit.
"""

import hashlib
import json
from importlib.util import find_spec
from pathlib import Path

from scaling.core.errors import UserError
from scaling.core.identity import digest
from scaling.core.specs import TextSpec

READ = ("*.json", "*.safetensors", "*.txt", "*.model")
"""Files of a model's folder that a loader may read: config, weights, and the tokenizers' vocabularies."""

WIDTHS = ("hidden_size", "d_model", "dim")
"""What config.json calls the width, by family."""


def is_folder(encoder: str) -> bool:
    """Whether an encoder is a folder: names on the hub do not begin with "/" or "."."""
    return encoder.startswith(("/", "."))


def encoder_manifest(folder: Path, text: TextSpec) -> str:
    """16 hex digits over names and contents of the files that are read.

    Raises UserError where the folder is no text encoder's or has another width than `text`, or where the package
    that reads it is missing.
    """
    _need_transformers(str(folder))
    if not folder.is_dir():
        raise UserError(f"{folder}: no such folder of a text encoder")
    for wanted in ("config.json", "*.safetensors"):
        if not list(folder.glob(wanted)):
            raise UserError(f"{folder}: holds no {wanted}; give the folder of a model that `save_pretrained` wrote")
    check_width(folder / "config.json", text)
    files = {path for pattern in READ for path in folder.glob(pattern)}
    return digest(sorted((path.name, _sha256(path)) for path in files))


def pin(text: TextSpec) -> TextSpec:
    """The same with the commit in the encoder's name: `name@revision`, or the newest, becomes `name@commit`.

    Asks the hub, or the hub's cache on this machine where there is no network. Raises UserError where neither knows the
    name, where its width is another one, or where the package is missing.
    """
    _need_transformers(text.encoder)
    from huggingface_hub import hf_hub_download

    name, _, revision = text.encoder.partition("@")
    try:
        config = Path(hf_hub_download(name, "config.json", revision=revision or None))
    except (OSError, ValueError) as error:
        raise _not_had(text.encoder, error) from None
    check_width(config, text)
    return text.replace(encoder=f"{name}@{config.parent.name}")  # .../snapshots/<commit>/config.json


def download(encoder: str) -> Path:
    """The folder with a pinned encoder's files, fetched from the hub unless the hub's cache has them.

    Raises UserError where they cannot be had.
    """
    from huggingface_hub import snapshot_download

    name, _, commit = encoder.partition("@")
    try:
        return Path(snapshot_download(name, revision=commit, allow_patterns=list(READ), ignore_patterns=["*/*"]))
    except (OSError, ValueError) as error:
        raise _not_had(encoder, error) from None


def check_width(config: Path, text: TextSpec) -> None:
    """Raises UserError, with the right number, where config.json says another width; at planning, before hours are
    spent. A config that says it by no usual name is checked when the encoder is loaded."""
    try:
        document = json.loads(config.read_text())
    except ValueError as error:
        raise UserError(f"{config}: not valid JSON: {error}") from None
    parts = (document.get("text_config") or {}, document)
    found = next((part[name] for part in parts for name in WIDTHS if name in part), text.width)
    if found != text.width:
        raise wrong_width(config.parent, text, found)


def wrong_width(encoder: str | Path, text: TextSpec, found: int) -> UserError:
    return UserError(f"{encoder}: its token states have width {found}, but text.width is {text.width}: give {found}")


def _not_had(encoder: str, error: Exception) -> UserError:
    return UserError(
        f"{encoder}: neither a folder (which begins with '/' or '.') nor to be had from the Hugging Face hub: "
        f"{str(error).strip().splitlines()[0]}"
    )


def _need_transformers(encoder: str) -> None:
    if find_spec("transformers") is None:
        raise UserError(f"text.encoder is {encoder}, which needs the extra 'hf': pip install 'scaling[hf]'")


def _sha256(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
