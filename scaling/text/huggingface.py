"""Text encoders of Hugging Face's `transformers`, an optional dependency: the encoder of T5, CLIP's text model, BERT.

Weights are read from safetensors only, and code that comes with a model is not run.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from torch import Tensor

from scaling.core.errors import UserError
from scaling.text.encoder import TextEncoder

LOAD_OPTIONS = {"trust_remote_code": False, "local_files_only": True}
"""Options of every loader of the package: nothing outside the folder is read, and no code of a model is run."""


class HuggingFaceEncoder(TextEncoder):
    """The last hidden states of a pretrained network, in float32, with its own tokenizer."""

    def __init__(self, folder: Path) -> None:
        """Loads config.json, safetensors and the tokenizer's files from a folder, as `save_pretrained` writes them.

        Raises UserError where the folder holds no such model, a model that is not a text encoder, or only a part of its
        weights.
        """
        super().__init__()
        try:
            config, self.network, report = _load_network(folder)
            self.tokenizer = _load_tokenizer(folder)
        except (OSError, ValueError, ImportError, SafetensorError) as error:
            first_line = str(error).strip().splitlines()[0]
            raise UserError(f"{folder}: cannot be loaded as a text encoder: {first_line}") from None
        # a pooler makes a vector of the whole sentence, which is not used
        missing = sorted(name for name in report["missing_keys"] if "pooler" not in name)
        if missing:
            raise UserError(f"{folder}: its safetensors lack {len(missing)} tensors of the model, such as {missing[0]}")
        self.width = config.hidden_size
        self.most_tokens = min(self.tokenizer.model_max_length, getattr(config, "max_position_embeddings", 10**6))
        self.requires_grad_(False).eval()

    def token_ids(self, captions: list[str], max_tokens: int) -> list[list[int]]:
        ids: list[list[int]] = self.tokenizer(captions, truncation=True, max_length=max_tokens)["input_ids"]
        return ids

    def forward(self, ids: Tensor, mask: Tensor) -> Tensor:
        states: Tensor = self.network(input_ids=ids, attention_mask=mask.long()).last_hidden_state
        return states


def _load_network(folder: Path) -> tuple[Any, Any, dict[str, Any]]:
    """The config, the network, and a report of which tensors the files hold."""
    from transformers import AutoConfig, AutoModelForTextEncoding, logging

    # the package's progress bars and its table of unused tensors would appear between the lines of a command
    silencers: tuple[Callable[[], None], ...] = (logging.disable_progress_bar, logging.set_verbosity_error)
    for silence in silencers:
        silence()
    config = AutoConfig.from_pretrained(folder, **LOAD_OPTIONS)
    config = getattr(config, "text_config", None) or config  # a complete CLIP contains a text model
    network, report = AutoModelForTextEncoding.from_pretrained(
        folder, config=config, use_safetensors=True, dtype=torch.float32, output_loading_info=True, **LOAD_OPTIONS
    )
    return config, network, report


def _load_tokenizer(folder: Path) -> Any:
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(folder, **LOAD_OPTIONS)
